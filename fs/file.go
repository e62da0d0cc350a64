package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// Open authorises and makes sure that there is content. The handle is its version,
// so that it means the same to a daemon that took over after a restart.
func (t *tree) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	id, ok := t.names.id(in.NodeId)
	if !ok {
		// The kernel looks the name up again and comes back.
		return fuse.Status(syscall.ESTALE)
	}
	c := t.caller(&in.InHeader)
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		if !t.Provider.MayRead(c, id) {
			return fuse.EACCES
		}
		return fuse.EROFS
	}
	version, err := t.Provider.Open(cancel, c, id)
	if err != nil {
		return t.refuse(cancel, c, err)
	}
	t.names.opened(in.NodeId)
	out.Fh = version
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// Read authorises once more. Direct I/O alone does not keep the content out of the
// page cache, where anybody with a descriptor could read it unasked: splice,
// sendfile, readahead and private mappings fill it. Such reads lack the mark of a
// true read(2), and are refused.
func (t *tree) Read(
	cancel <-chan struct{}, in *fuse.ReadIn, _ []byte,
) (fuse.ReadResult, fuse.Status) {
	id, ok := t.names.id(in.NodeId)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	c := t.caller(&in.InHeader)
	if in.ReadFlags&fuse.READ_LOCKOWNER == 0 {
		return nil, status(t.Provider.Refuse(c, id, &conn.Error{
			Kind: conn.PageRead, Reason: "a read through the page cache", Hint: "use read(2)",
		}))
	}
	if in.Offset > 1<<40 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	data, release, err := t.Provider.Read(cancel, c, id, in.Fh, int(in.Offset), int(in.Size))
	if err != nil {
		return nil, status(err)
	}
	if release == nil {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return &reply{data, release}, fuse.OK
}

// Release needs no work: a handle holds nothing.
func (t *tree) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Flush is not asked for, and harmless.
func (t *tree) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Ioctl tells Python's open, which asks whether the file is a terminal, that it is
// not.
func (t *tree) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}

// Write cannot follow an Open that allows none.
func (t *tree) Write(<-chan struct{}, *fuse.WriteIn, []byte) (uint32, fuse.Status) {
	return 0, fuse.EROFS
}

// Fallocate is a write.
func (t *tree) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status { return fuse.EROFS }

// reply is a READ's answer out of locked memory. go-fuse writes the slices to the
// kernel as they are, without a copy, and then calls Done.
type reply struct {
	data    [][]byte
	release func()
}

func (r *reply) Size() int {
	n := 0
	for _, s := range r.data {
		n += len(s)
	}
	return n
}

// Slices is what go-fuse asks for where it can write several buffers at once.
func (r *reply) Slices() ([][]byte, fuse.Status) { return r.data, fuse.OK }

// Bytes would be a copy in memory that is not locked.
func (r *reply) Bytes([]byte) ([]byte, fuse.Status) { return nil, fuse.EIO }

func (r *reply) Done() { r.release() }
