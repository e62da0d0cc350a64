package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// Lookup answers every well-formed name with the same entry, for every caller.
func (t *tree) Lookup(
	_ <-chan struct{}, h *fuse.InHeader, file string, out *fuse.EntryOut,
) fuse.Status {
	if h.NodeId != fuse.FUSE_ROOT_ID {
		return fuse.ENOTDIR
	}
	id, err := conn.IDFromFileName(file)
	if err != nil {
		return status(err)
	}
	c := t.caller(h)
	node, reads := t.names.node(id), t.Provider.MayRead(c, id)
	if _, ok := t.listings.id(node); ok && reads {
		t.names.told(node)
	} else {
		t.names.lookedUp(node, id, c.UID, reads)
	}
	t.entry(node, out)
	return fuse.OK
}

// entry fills in the entry of a node.
func (t *tree) entry(node uint64, out *fuse.EntryOut) {
	out.NodeId, out.Generation = node, 1
	out.SetEntryTimeout(entryTimeout)
	t.entryAttr(node, &out.Attr)
}

// OpenDir sees to it that the listing is not old. READDIR cannot: while it waits the kernel
// holds what a LOOKUP of any user may need. The handle holds nothing.
func (t *tree) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	_, err := t.Provider.List(cancel, t.caller(&in.InHeader))
	return status(err)
}

// ReleaseDir has nothing to do.
func (t *tree) ReleaseDir(*fuse.ReleaseIn) {}

// ReadDir lists what the caller of this request may read. It need not be the caller of
// OpenDir: a directory descriptor can be passed on.
func (t *tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	t.list(in, func(e fuse.DirEntry, _ uint64, _ string) bool { return out.AddDirEntry(e) })
	return fuse.OK
}

// ReadDirPlus is ReadDir with the entries, and with the attributes only if other users may see
// them, which share_names allows.
func (t *tree) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c := t.caller(&in.InHeader)
	t.list(in, func(e fuse.DirEntry, node uint64, id string) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if id == "" {
			return true // "." and "..": an entry of zeros, which the kernel skips
		}
		t.names.told(node)
		t.entry(node, entry)
		if t.ShareNames {
			size, changed, err := t.Provider.Stat(c, id)
			if err != nil {
				size, changed = -1, t.started
			}
			t.fileAttr(node, size, changed, &entry.Attr)
			entry.SetAttrTimeout(t.attrTimeout())
		}
		return true
	})
	return fuse.OK
}

// list calls add with the entries from the request's offset on, until add reports that the
// reply is full. What was listed since the directory was opened or last rewound may be shown.
func (t *tree) list(in *fuse.ReadIn, add func(e fuse.DirEntry, node uint64, id string) bool) {
	for i, dot := range []string{".", ".."} {
		e := fuse.DirEntry{
			Mode: syscall.S_IFDIR, Name: dot, Ino: fuse.FUSE_ROOT_ID, Off: selfCookie + uint64(i),
		}
		if in.Offset < e.Off && !add(e, fuse.FUSE_ROOT_ID, "") {
			return
		}
	}
	c := t.caller(&in.InHeader)
	l := t.listing(c)
	for _, e := range l.after(in.Offset) {
		id := l.ids[e.index]
		if !t.Provider.MayRead(c, id) {
			continue
		}
		name, _ := conn.FileName(id) // only ids that have one are listed
		entry := fuse.DirEntry{
			Mode: syscall.S_IFREG, Name: name, Ino: inode(e.node), Off: uint64(e.cookie),
		}
		if !add(entry, e.node, id) {
			return
		}
	}
}

// GetAttr decides for this caller, and asks no backend. It shows the caller as the owner of
// what it may read: with mode 0400, programs that look at owner and mode take a file of
// somebody else's for one that they cannot read.
//
// The kernel would keep the answer, and give it to everybody who asks for what is known
// (statx with AT_STATX_DONT_SYNC). And the owner that it keeps may take a lease, which holds
// up every other open of the file for most of a minute. So before the answer comes a notice
// that attributes have changed since it asked. The kernel then passes the answer on to the
// program, and keeps what the entry said. (Linux does so since 5.10.)
func (t *tree) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(t.attrTimeout())
	if in.NodeId == fuse.FUSE_ROOT_ID {
		t.rootAttr(&out.Attr)
		return fuse.OK
	}
	c := t.caller(&in.InHeader)
	id, ok := t.find(c, in.NodeId)
	if !ok {
		return stale
	}
	size, changed, err := t.Provider.Stat(c, id)
	if err != nil {
		return t.refuse(cancel, c, err)
	}
	t.fileAttr(in.NodeId, size, changed, &out.Attr)
	// With a file handle it is lseek(2) that asks for the end of the file. It uses what the
	// kernel keeps, and shows no owner.
	if t.ShareNames || in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		return fuse.OK
	}
	out.Owner = fuse.Owner{Uid: c.UID, Gid: c.GID}
	if t.kernel != nil {
		// It fails only for a node that the kernel does not keep.
		_ = t.kernel.InodeNotify(in.NodeId, -1, 0)
	}
	return fuse.OK
}

// Access must never answer ENOSYS, after which the kernel would allow it to everybody.
// access(2) asks with the caller's real uid, which need not be the uid that reads, so only
// OPEN decides about reading.
func (t *tree) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	if in.NodeId == fuse.FUSE_ROOT_ID {
		if in.Mask&fuse.W_OK != 0 {
			return fuse.EROFS
		}
		return fuse.OK
	}
	c := t.caller(&in.InHeader)
	id, ok := t.find(c, in.NodeId)
	if !ok {
		return stale
	}
	if _, _, err := t.Provider.Stat(c, id); err != nil {
		return t.refuse(cancel, c, err)
	}
	switch {
	case in.Mask&fuse.W_OK != 0:
		return fuse.EROFS
	case in.Mask&fuse.X_OK != 0:
		return fuse.EACCES
	}
	return fuse.OK
}

// refuseWrite answers an attempt to change the entry name: EROFS to those who may read it,
// and to others what a read would answer.
func (t *tree) refuseWrite(h *fuse.InHeader, name string) fuse.Status {
	id, err := conn.IDFromFileName(name)
	if err == nil && !t.Provider.MayRead(t.caller(h), id) {
		return fuse.EACCES
	}
	return fuse.EROFS
}

func (t *tree) Mknod(
	_ <-chan struct{}, in *fuse.MknodIn, name string, _ *fuse.EntryOut,
) fuse.Status {
	return t.refuseWrite(&in.InHeader, name)
}

func (t *tree) Mkdir(
	_ <-chan struct{}, in *fuse.MkdirIn, name string, _ *fuse.EntryOut,
) fuse.Status {
	return t.refuseWrite(&in.InHeader, name)
}

func (t *tree) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return t.refuseWrite(h, name)
}

func (t *tree) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return t.refuseWrite(h, name)
}

func (t *tree) Rename(_ <-chan struct{}, in *fuse.RenameIn, old, _ string) fuse.Status {
	return t.refuseWrite(&in.InHeader, old)
}

func (t *tree) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, _ *fuse.EntryOut) fuse.Status {
	return t.refuseWrite(&in.InHeader, name)
}

func (t *tree) Symlink(
	_ <-chan struct{}, h *fuse.InHeader, _, name string, _ *fuse.EntryOut,
) fuse.Status {
	return t.refuseWrite(h, name)
}

func (t *tree) Create(
	_ <-chan struct{}, in *fuse.CreateIn, name string, _ *fuse.CreateOut,
) fuse.Status {
	return t.refuseWrite(&in.InHeader, name)
}

func (t *tree) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}

// SetAttr refuses chmod, chown, truncate and touch.
func (t *tree) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, _ *fuse.AttrOut) fuse.Status {
	c := t.caller(&in.InHeader)
	id, ok := t.find(c, in.NodeId)
	switch {
	case !ok:
		return stale
	case !t.Provider.MayRead(c, id):
		return fuse.EACCES
	}
	return fuse.EROFS
}
