package main

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// firstNode is the node id of file 0. Ids follow from the file number, so there
// is no inode table, and FORGET needs no work.
const firstNode = 2

// floor answers the requests of the mount.
type floor struct {
	fuse.RawFileSystem
	config
}

func newFloor(cfg config) *floor {
	return &floor{RawFileSystem: fuse.NewDefaultRawFileSystem(), config: cfg}
}

func (f *floor) String() string { return "floorfs" }

func fileName(i int) string { return "c" + strconv.Itoa(i) + ".json" }

// index returns the number in a name that fileName made.
func (f *floor) index(name string) (int, bool) {
	digits := strings.TrimSuffix(strings.TrimPrefix(name, "c"), ".json")
	i, err := strconv.Atoi(digits)
	return i, err == nil && i >= 0 && i < f.files && fileName(i) == name
}

func (f *floor) fill(node uint64, a *fuse.Attr) {
	a.Ino, a.Blksize = node, 4096
	if node == fuse.FUSE_ROOT_ID {
		a.Mode, a.Nlink = syscall.S_IFDIR|0o555, 2
		return
	}
	a.Mode, a.Nlink = syscall.S_IFREG|0o400, 1
	a.Size = uint64(len(f.body))
	a.Blocks = (a.Size + 511) / 512
}

func (f *floor) fillEntry(node uint64, out *fuse.EntryOut) {
	out.NodeId, out.Generation = node, 1
	out.SetEntryTimeout(f.entryTimeout)
	out.SetAttrTimeout(f.attrTimeout)
	f.fill(node, &out.Attr)
}

// authorise is the uid check of every open, access and read.
func (f *floor) authorise(uid uint32) fuse.Status {
	if f.allowed == nil || f.allowed[uid] {
		return fuse.OK
	}
	return fuse.EACCES
}

func (f *floor) Lookup(
	_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut,
) fuse.Status {
	i, ok := f.index(name)
	if h.NodeId != fuse.FUSE_ROOT_ID || !ok {
		return fuse.ENOENT
	}
	f.fillEntry(uint64(i)+firstNode, out)
	return fuse.OK
}

func (f *floor) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.fill(in.NodeId, &out.Attr)
	out.SetTimeout(f.attrTimeout)
	return fuse.OK
}

func (f *floor) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	if in.NodeId == fuse.FUSE_ROOT_ID {
		return fuse.OK
	}
	return f.authorise(in.Uid)
}

func (f *floor) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH
	return f.authorise(in.Uid)
}

// Read refuses what the kernel reads to fill a page (mmap, splice, sendfile): a
// true direct read carries the reader's lock owner, such a one does not.
func (f *floor) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if in.ReadFlags&fuse.READ_LOCKOWNER == 0 {
		return nil, fuse.EINVAL
	}
	if st := f.authorise(in.Uid); st != fuse.OK {
		return nil, st
	}
	from := min(in.Offset, uint64(len(f.body)))
	to := min(from+uint64(in.Size), uint64(len(f.body)))
	return fuse.ReadResultData(f.body[from:to]), fuse.OK
}

func (f *floor) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (f *floor) Release(<-chan struct{}, *fuse.ReleaseIn) {}

func (f *floor) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	return fuse.OK
}

func (f *floor) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (f *floor) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	for i := int(in.Offset); i < f.files; i++ {
		if !out.AddDirEntry(
			fuse.DirEntry{
				Mode: syscall.S_IFREG, Name: fileName(i), Ino: uint64(i) + firstNode,
				Off: uint64(i) + 1,
			},
		) {
			break
		}
	}
	return fuse.OK
}

func (f *floor) ReadDirPlus(
	_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList,
) fuse.Status {
	for i := int(in.Offset); i < f.files; i++ {
		e := fuse.DirEntry{
			Mode: syscall.S_IFREG, Name: fileName(i), Ino: uint64(i) + firstNode,
			Off: uint64(i) + 1,
		}
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			break
		}
		f.fillEntry(e.Ino, entry)
	}
	return fuse.OK
}

func (f *floor) ReleaseDir(*fuse.ReleaseIn) {}
