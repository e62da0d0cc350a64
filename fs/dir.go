package fs

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// dirs holds the listings of open directories. Each is a snapshot, so that offsets stay
// valid until the reader has read to the end.
type dirs struct {
	mu   sync.Mutex
	next uint64
	open map[uint64][]string
}

func (d *dirs) add(ids []string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = make(map[uint64][]string)
	}
	d.next++
	d.open[d.next] = ids
	return d.next
}

func (d *dirs) get(fh uint64) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[fh]
}

func (d *dirs) drop(fh uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, fh)
}

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
	t.entry(t.names.remember(id, t.Provider.Grantable(id)), -1, out)
	return fuse.OK
}

// entry fills in the entry of a node.
func (t *tree) entry(node uint64, size int, out *fuse.EntryOut) {
	out.NodeId, out.Generation = node, 1
	out.SetEntryTimeout(entryTimeout)
	t.fileAttr(out.NodeId, size, &out.Attr)
}

// OpenDir takes a snapshot of the ids that are known.
func (t *tree) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ids, err := t.Provider.List(cancel, t.caller(&in.InHeader))
	if err != nil {
		return status(err)
	}
	out.Fh = t.dirs.add(ids)
	return fuse.OK
}

// ReleaseDir drops the snapshot.
func (t *tree) ReleaseDir(in *fuse.ReleaseIn) { t.dirs.drop(in.Fh) }

// ReadDir lists what the caller of this request may read. It need not be the caller of
// OpenDir: a directory descriptor can be passed on.
func (t *tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	t.list(in, func(e fuse.DirEntry, _ uint64, _ string) bool { return out.AddDirEntry(e) })
	return fuse.OK
}

// ReadDirPlus is ReadDir with the attributes. The kernel keeps them only if other users may
// see them, which share_names allows.
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
		size, err := t.Provider.Stat(c, id)
		if err != nil {
			size = -1
		}
		t.names.keep(node, id, t.Provider.Grantable(id))
		t.entry(node, size, entry)
		entry.SetAttrTimeout(t.attrTimeout())
		return true
	})
	return fuse.OK
}

// list calls add with the entries from the request's offset on, until add reports that the
// reply is full.
func (t *tree) list(in *fuse.ReadIn, add func(e fuse.DirEntry, node uint64, id string) bool) {
	for i, dot := range []string{".", ".."} {
		e := fuse.DirEntry{
			Mode: syscall.S_IFDIR, Name: dot, Ino: fuse.FUSE_ROOT_ID, Off: uint64(i) + 1,
		}
		if in.Offset <= uint64(i) && !add(e, fuse.FUSE_ROOT_ID, "") {
			return
		}
	}
	ids := t.dirs.get(in.Fh)
	c := t.caller(&in.InHeader)
	// The reader can seek to any offset.
	for i := int(min(max(in.Offset, 2)-2, uint64(len(ids)))); i < len(ids); i++ {
		name, ok := conn.FileName(ids[i])
		if !ok || !t.Provider.MayRead(c, ids[i]) {
			continue
		}
		node := t.names.node(ids[i])
		e := fuse.DirEntry{
			Mode: syscall.S_IFREG, Name: name, Ino: inode(node), Off: uint64(i) + 3,
		}
		if !add(e, node, ids[i]) {
			return
		}
	}
}

// GetAttr decides for this caller, and asks no backend.
func (t *tree) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(t.attrTimeout())
	if in.NodeId == fuse.FUSE_ROOT_ID {
		t.rootAttr(&out.Attr)
		return fuse.OK
	}
	id, ok := t.names.id(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	c := t.caller(&in.InHeader)
	size, err := t.Provider.Stat(c, id)
	if err != nil {
		return t.refuse(cancel, c, err)
	}
	t.fileAttr(in.NodeId, size, &out.Attr)
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
	id, ok := t.names.id(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	c := t.caller(&in.InHeader)
	if _, err := t.Provider.Stat(c, id); err != nil {
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
	if id, ok := t.names.id(in.NodeId); ok {
		_, err := t.Provider.Stat(t.caller(&in.InHeader), id)
		if conn.KindOf(err) == conn.NotGranted {
			return status(err)
		}
	}
	return fuse.EROFS
}
