package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// Open authorises the caller and makes sure that there is content.
func (t *tree) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c := t.caller(&in.InHeader)
	id, ok := t.find(c, in.NodeId)
	if !ok {
		return stale
	}
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		if !t.Provider.MayRead(c, id) {
			return fuse.EACCES
		}
		return fuse.EROFS
	}
	version, err := t.Provider.Open(cancel, c, id)
	if conn.KindOf(err) != conn.NotGranted {
		// A file that is mounted elsewhere has no name to look up, whatever becomes of this open.
		t.names.opened(in.NodeId, id, c.UID)
	}
	if err != nil {
		return t.refuse(cancel, c, err)
	}
	out.Fh = t.handles.add(in.NodeId, version)
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// Read authorises the caller again. Direct I/O alone does not keep the content out of the
// page cache, where anybody with a descriptor could read it without connfs being asked:
// splice, sendfile, readahead and private mappings fill the page cache. Such reads lack the
// flag that a true read(2) has, and are refused.
func (t *tree) Read(
	cancel <-chan struct{}, in *fuse.ReadIn, _ []byte,
) (fuse.ReadResult, fuse.Status) {
	c := t.caller(&in.InHeader)
	id, ok := t.find(c, in.NodeId)
	if !ok {
		return nil, stale
	}
	if in.ReadFlags&fuse.READ_LOCKOWNER == 0 {
		return nil, status(t.Provider.Refuse(c, id, &conn.Error{
			Kind: conn.PageRead, Reason: "a read through the page cache", Hint: "use read(2)",
		}))
	}
	if in.Offset > 1<<40 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	for {
		h := handle{in.NodeId, in.Fh}
		opened := t.handles.version(h)
		data, version, release, err := t.Provider.Read(
			cancel, c, id, opened, int(in.Offset), int(in.Size))
		switch {
		case err != nil:
			return nil, status(err)
		case opened == 0 && !t.handles.read(h, version):
			// Two first READs at once have met two versions. This one has to serve the other's.
			if release != nil {
				release()
			}
		case release == nil:
			return fuse.ReadResultData(nil), fuse.OK
		default:
			return &reply{data, release}, fuse.OK
		}
	}
}

// Release is told that a file was closed.
func (t *tree) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	t.handles.release(handle{in.NodeId, in.Fh})
}

// Flush does nothing. The kernel does not ask for it, since Open sets FOPEN_NOFLUSH.
func (t *tree) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Ioctl answers ENOTTY: Python's open asks whether the file is a terminal.
func (t *tree) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}

// Write is never asked, since Open refuses to open a file for writing.
func (t *tree) Write(<-chan struct{}, *fuse.WriteIn, []byte) (uint32, fuse.Status) {
	return 0, fuse.EROFS
}

// Fallocate would write.
func (t *tree) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status { return fuse.EROFS }

// reply is the answer to a READ, in locked memory. go-fuse writes the slices to the kernel
// with write(2), without copying them, and then calls Done.
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

// Slices is what go-fuse calls, since it can write several buffers at once.
func (r *reply) Slices() ([][]byte, fuse.Status) { return r.data, fuse.OK }

// Bytes fails, because it would copy the content into memory that is not locked.
func (r *reply) Bytes([]byte) ([]byte, fuse.Status) { return nil, fuse.EIO }

func (r *reply) Done() { r.release() }
