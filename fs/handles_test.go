package fs

import (
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestAFileThatWasJustOpenedServesWhatIsThereNow(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	n := node(t, tr, "a_db.json")
	open := func() uint64 {
		t.Helper()
		var out fuse.OpenOut
		if st := tr.Open(nil, &fuse.OpenIn{InHeader: from(alice, n)}, &out); !st.Ok() {
			t.Fatal(st)
		}
		return out.Fh
	}
	gives := func(fh, off uint64, want string, errno syscall.Errno) {
		t.Helper()
		in := read(alice, n, off, 100)
		in.Fh = fh
		r, st := tr.Read(nil, in, nil)
		if st != fuse.Status(errno) {
			t.Errorf("READ at %d: %v, want %v", off, st, errno)
		} else if st.Ok() {
			if got := text(t, r); got != want {
				t.Errorf("READ at %d: %q, want %q", off, got, want)
			}
		}
	}
	change := func(text string) {
		s.content["a_db"] = text
		s.changes["a_db"]++
	}
	used, fresh, atEnd, failed := open(), open(), open(), open()
	if used == fresh {
		t.Error("two opens have the same handle")
	}
	gives(used, 0, "alice's", 0)
	s.fail["a_db"] = syscall.EIO
	gives(failed, 0, "", syscall.EIO)
	delete(s.fail, "a_db")
	change("rotated, longer")
	gives(used, 0, "", syscall.ESTALE)
	gives(fresh, 0, "rotated, longer", 0)
	gives(fresh, 8, " longer", 0)
	gives(atEnd, 100, "", 0)
	gives(failed, 0, "rotated, longer", 0) // nothing was read from it before
	change("once more")
	for _, fh := range []uint64{used, fresh, atEnd, failed} {
		gives(fh, 0, "", syscall.ESTALE)
		tr.Release(nil, &fuse.ReleaseIn{InHeader: from(alice, n), Fh: fh})
	}
	for i := range tr.handles.tables {
		if left := &tr.handles.tables[i]; len(left.fresh) != 0 || len(left.moved) != 0 {
			t.Errorf("left of files that are closed: %v, %v", left.fresh, left.moved)
		}
	}
	if s.pinned != 0 {
		t.Errorf("%d replies were not released", s.pinned)
	}
}

func TestTwoFirstReadsOfOneHandleServeOneVersion(t *testing.T) {
	var h handles
	k := handle{77, h.add(77, 1)}
	if h.version(k) != 0 {
		t.Error("a handle from which nothing was read wants a version")
	}
	if !h.read(k, 2) || h.read(k, 3) || !h.read(k, 2) || h.version(k) != 2 {
		t.Errorf("two READs serve two versions; it stands for %d", h.version(k))
	}
	other := handle{78, k.fh} // of another file
	if h.version(other) != 1 || h.read(other, 2) {
		t.Error("handles of two files are taken for one")
	}
}

func TestOnlySoManyHandlesAreRemembered(t *testing.T) {
	var h handles
	for range maxHandles + 10 {
		h.add(77, 1)
	}
	for i := range h.tables {
		for k := range h.tables[i].fresh {
			h.read(k, 2)
		}
	}
	for range maxHandles {
		h.read(handle{77, h.add(77, 1)}, 2)
	}
	fresh, moved := 0, 0
	for i := range h.tables {
		fresh, moved = fresh+len(h.tables[i].fresh), moved+len(h.tables[i].moved)
	}
	if fresh > maxHandles || moved > maxHandles || moved < maxHandles/2 {
		t.Errorf("%d and %d are remembered", fresh, moved)
	}
}
