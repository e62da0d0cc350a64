package fs

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// The kernel shares entries among all users: what one caller gets, all get.
func TestLookupAnswersEveryCallerAndNameTheSame(t *testing.T) {
	tr := newTree(newStore(), false)
	for _, file := range []string{
		"a_db.json", "shared.json", "bobs.json", "no_such.json", "a b.json", "slash%2Fed.json",
		"%2Ehidden.json", "100%25.json", strings.Repeat("x", 1019) + ".json",
	} {
		var first fuse.EntryOut
		for i, uid := range []uint32{alice, bob, root, 65534, math.MaxUint32} {
			h := from(uid, fuse.FUSE_ROOT_ID)
			var out fuse.EntryOut
			if st := tr.Lookup(nil, &h, file, &out); !st.Ok() {
				t.Fatalf("%.20q as %d: %v", file, uid, st)
			}
			if i == 0 {
				first = out
			} else if diff := cmp.Diff(first, out); diff != "" {
				t.Errorf("%.20q differs for uid %d:\n%s", file, uid, diff)
			}
		}
		if first.EntryTimeout() != time.Minute || first.AttrTimeout() != 0 {
			t.Errorf("%.20q: entry for %v, attributes for %v", file, first.EntryTimeout(),
				first.AttrTimeout())
		}
		if first.Size != entrySize || first.Mode != syscall.S_IFREG|0o400 || first.Uid != 0 ||
			first.NodeId < firstFileNode || first.Ino != inode(first.NodeId) {
			t.Errorf("%.20q: %+v", file, first)
		}
	}
}

func TestLookupTellsNothingOfWhatIsLoaded(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	h := from(alice, fuse.FUSE_ROOT_ID)
	var before, after fuse.EntryOut
	tr.Lookup(nil, &h, "a_db.json", &before)
	s.content["a_db"] = strings.Repeat("x", 10000)
	tr.Lookup(nil, &h, "a_db.json", &after)
	delete(s.content, "a_db")
	var gone fuse.EntryOut
	tr.Lookup(nil, &h, "a_db.json", &gone)
	if before != after || after != gone {
		t.Error("an entry depends on the content")
	}
	if len(s.calls) > 0 {
		t.Errorf("LOOKUP asked for %q", s.calls)
	}
}

func TestLookupRefusesOnlyWhatNoIDIsWrittenAs(t *testing.T) {
	tr := newTree(newStore(), false)
	for file, want := range map[string]syscall.Errno{
		"a_db": syscall.ENOENT, ".json": syscall.ENOENT, ".hidden.json": syscall.ENOENT,
		"a%2f.json": syscall.ENOENT, "a%41.json": syscall.ENOENT, "a%.json": syscall.ENOENT,
		"a\n.json": syscall.ENOENT, "a_db.JSON": syscall.ENOENT, ".Trash": syscall.ENOENT,
		"":                                  syscall.ENOENT,
		strings.Repeat("x", 1020) + ".json": syscall.ENAMETOOLONG,
	} {
		h := from(alice, fuse.FUSE_ROOT_ID)
		if st := tr.Lookup(nil, &h, file, new(fuse.EntryOut)); st != fuse.Status(want) {
			t.Errorf("%.20q: %v, want %v", file, st, want)
		}
	}
	h := from(alice, node(t, tr, "a_db.json"))
	if st := tr.Lookup(nil, &h, "x.json", new(fuse.EntryOut)); st != fuse.ENOTDIR {
		t.Errorf("below a file: %v", st)
	}
}

func TestGetAttrAccessAndOpenDecideForEachCaller(t *testing.T) {
	s := newStore()
	s.fail["a b"] = conn.Errorf(conn.Timeout, "", "slow")
	tr := newTree(s, false)
	for _, c := range []struct {
		file string
		uid  uint32
		want syscall.Errno
	}{
		{"a_db.json", alice, 0}, {"shared.json", alice, 0}, {"shared.json", bob, 0},
		{"slash%2Fed.json", alice, 0},
		{"a_db.json", bob, syscall.EACCES}, {"a_db.json", root, syscall.EACCES},
		{"a_db.json", math.MaxUint32, syscall.EACCES},
		{"bobs.json", bob, syscall.EACCES}, {"no_such.json", alice, syscall.EACCES},
		{"a b.json", alice, syscall.ETIMEDOUT},
	} {
		n := node(t, tr, c.file)
		want := fuse.Status(c.want)
		if st := tr.GetAttr(
			nil, &fuse.GetAttrIn{InHeader: from(c.uid, n)}, new(fuse.AttrOut),
		); st != want {
			t.Errorf("GETATTR of %s by %d: %v, want %v", c.file, c.uid, st, want)
		}
		if st := tr.Access(
			nil, &fuse.AccessIn{InHeader: from(c.uid, n), Mask: fuse.R_OK},
		); st != want {
			t.Errorf("ACCESS of %s by %d: %v, want %v", c.file, c.uid, st, want)
		}
		if st := tr.Open(
			nil, &fuse.OpenIn{InHeader: from(c.uid, n)}, new(fuse.OpenOut),
		); st != want {
			t.Errorf("OPEN of %s by %d: %v, want %v", c.file, c.uid, st, want)
		}
		if _, st := tr.Read(nil, read(c.uid, n, 0, 100), nil); st != want {
			t.Errorf("READ of %s by %d: %v, want %v", c.file, c.uid, st, want)
		}
	}
	s.grants[alice] = append(s.grants[alice], "no_such")
	if st := tr.Open(
		nil, &fuse.OpenIn{InHeader: from(alice, node(t, tr, "no_such.json"))}, new(fuse.OpenOut),
	); st != fuse.ENOENT {
		t.Errorf("OPEN of a granted id that is absent: %v", st)
	}
}

// read is a true read(2).
func read(uid uint32, node, off uint64, size uint32) *fuse.ReadIn {
	return &fuse.ReadIn{
		InHeader: from(uid, node), Fh: version << 32, Offset: off, Size: size,
		ReadFlags: fuse.READ_LOCKOWNER,
	}
}

func TestTheProviderLearnsWhoAsks(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	n := node(t, tr, "shared.json")
	tr.Open(nil, &fuse.OpenIn{InHeader: from(alice, n)}, new(fuse.OpenOut))
	tr.Read(nil, read(bob, n, 0, 10), nil)
	want := []conn.Caller{
		{UID: alice, GID: alice + 1, PID: 77, Unique: 9, Mount: "/conn"},
		{UID: bob, GID: bob + 1, PID: 77, Unique: 9, Mount: "/conn"},
	}
	if diff := cmp.Diff(want, s.callers); diff != "" {
		t.Errorf("callers (-want +got):\n%s", diff)
	}
}

// notices are the nodes that the kernel was told to ask about again.
type notices []uint64

func (n *notices) InodeNotify(node uint64, off, _ int64) fuse.Status {
	if off >= 0 {
		return fuse.EINVAL // it would wait for pages that a reader holds
	}
	*n = append(*n, node)
	return fuse.OK
}

func TestAttributesOfAFile(t *testing.T) {
	for _, share := range []bool{false, true} {
		tr := newTree(newStore(), share)
		for file, size := range map[string]uint64{"a_db.json": 7, "shared.json": unknownSize} {
			n := node(t, tr, file)
			var told notices
			tr.kernel = &told
			var out fuse.AttrOut
			tr.GetAttr(nil, &fuse.GetAttrIn{InHeader: from(alice, n)}, &out)
			if out.Size != size || out.Mode != syscall.S_IFREG|0o400 || out.Nlink != 1 ||
				out.Ino != inode(n) || out.ModTime() != changed || out.ChangeTime() != changed {
				t.Errorf("%s: %+v", file, out.Attr)
			}
			want, kept := fuse.Owner{Uid: alice, Gid: alice + 1}, notices{n}
			if share {
				want, kept = fuse.Owner{}, nil
			}
			if out.Owner != want {
				t.Errorf("share_names %v, %s: owner %+v, want %+v", share, file, out.Owner, want)
			}
			if diff := cmp.Diff(kept, told); diff != "" {
				t.Errorf("share_names %v, %s: notices (-want +got):\n%s", share, file, diff)
			}
			if got := out.Timeout() > 0; got != share {
				t.Errorf("share_names %v: attributes kept for %v", share, out.Timeout())
			}
		}
	}
}

// The kernel keeps the owner that it is told here, for everybody.
func TestLseekGetsTheSizeAndNoOwner(t *testing.T) {
	tr := newTree(newStore(), false)
	n := node(t, tr, "a_db.json")
	var told notices
	tr.kernel = &told
	var out fuse.AttrOut
	tr.GetAttr(nil, &fuse.GetAttrIn{InHeader: from(alice, n), Flags_: fuse.FUSE_GETATTR_FH}, &out)
	if out.Size != 7 || out.Owner != (fuse.Owner{}) || len(told) > 0 {
		t.Errorf("size %d, owner %+v, %d notices", out.Size, out.Owner, len(told))
	}
}

func TestInodeNumbersFitInto32Bits(t *testing.T) {
	for node, want := range map[uint64]uint64{
		0x1_0000_0001: 2, 0x1_0000_0000: 2, 0x12345678_9abcdef0: 0x88888888, 77: 77,
		math.MaxUint64: 2, 0xffffffff: 0xffffffff, 0x5_0000_0001: 4,
	} {
		if got := inode(node); got != want {
			t.Errorf("%#x: %#x, want %#x", node, got, want)
		}
	}
}

func TestTheRootIsThereForEverybody(t *testing.T) {
	tr := newTree(newStore(), false)
	for _, uid := range []uint32{alice, root, math.MaxUint32} {
		var out fuse.AttrOut
		if st := tr.GetAttr(
			nil, &fuse.GetAttrIn{InHeader: from(uid, fuse.FUSE_ROOT_ID)}, &out,
		); !st.Ok() ||
			out.Mode != syscall.S_IFDIR|0o555 {
			t.Errorf("uid %d: %v, mode %o", uid, st, out.Mode)
		}
		for mask, want := range map[uint32]fuse.Status{
			fuse.R_OK: fuse.OK, fuse.X_OK: fuse.OK, fuse.F_OK: fuse.OK, fuse.W_OK: fuse.EROFS,
			fuse.W_OK | fuse.R_OK: fuse.EROFS,
		} {
			if st := tr.Access(
				nil, &fuse.AccessIn{InHeader: from(uid, fuse.FUSE_ROOT_ID), Mask: mask},
			); st != want {
				t.Errorf("ACCESS %d by %d: %v, want %v", mask, uid, st, want)
			}
		}
	}
	var out fuse.StatfsOut
	h := from(alice, fuse.FUSE_ROOT_ID)
	if st := tr.StatFs(nil, &h, &out); !st.Ok() || out.NameLen != 1024 || out.Files != 0 {
		t.Errorf("STATFS: %v, %+v", st, out)
	}
}

func TestOpenIsUncached(t *testing.T) {
	tr := newTree(newStore(), false)
	var out fuse.OpenOut
	if st := tr.Open(
		nil, &fuse.OpenIn{InHeader: from(alice, node(t, tr, "a_db.json"))}, &out,
	); !st.Ok() {
		t.Fatal(st)
	}
	if out.OpenFlags != fuse.FOPEN_DIRECT_IO|fuse.FOPEN_NOFLUSH || out.Fh>>32 != version {
		t.Errorf("flags %#x, handle %d", out.OpenFlags, out.Fh)
	}
}

// text takes the answer to a READ as go-fuse does.
func text(t *testing.T, r fuse.ReadResult) string {
	t.Helper()
	defer r.Done()
	if p, ok := r.(*reply); ok {
		parts, st := p.Slices()
		all := bytes.Join(parts, nil)
		if !st.Ok() || len(all) != r.Size() {
			t.Errorf("%v, %d bytes, and Size says %d", st, len(all), r.Size())
		}
		if _, st := r.Bytes(make([]byte, 100)); st.Ok() {
			t.Error("Bytes makes a copy in memory that is not locked")
		}
		return string(all)
	}
	b, st := r.Bytes(nil)
	if !st.Ok() {
		t.Error(st)
	}
	return string(b)
}

func TestReadServesFromAnyOffset(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	n := node(t, tr, "shared.json")
	for _, c := range []struct {
		off  uint64
		size uint32
		want string
	}{
		{0, 100, "for two"}, {0, 3, "for"}, {4, 100, "two"}, {6, 1, "o"}, {7, 1, ""}, {8, 1, ""},
		{1<<40 + 1, 1, ""}, {math.MaxInt64, 1, ""}, {math.MaxUint64, 1, ""}, {0, 0, ""},
	} {
		r, st := tr.Read(nil, read(alice, n, c.off, c.size), nil)
		if !st.Ok() {
			t.Errorf("READ of %d at %d: %v", c.size, c.off, st)
			continue
		}
		if got := text(t, r); got != c.want {
			t.Errorf("READ of %d at %d: %q, want %q", c.size, c.off, got, c.want)
		}
	}
	if s.pinned != 0 {
		t.Errorf("%d replies were not released", s.pinned)
	}
	in := read(alice, n, 0, 10)
	in.Fh = (version + 1) << 32
	if _, st := tr.Read(nil, in, nil); st != fuse.Status(syscall.ESTALE) {
		t.Errorf("READ of another version: %v", st)
	}
}

// sendfile, splice, readahead and private mappings would leave plaintext in the page
// cache; their READs lack the mark of read(2).
func TestAReadThroughThePageCacheIsRefused(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	n := node(t, tr, "a_db.json")
	for uid, want := range map[uint32]syscall.Errno{alice: syscall.EINVAL, bob: syscall.EACCES} {
		in := read(uid, n, 0, 100)
		in.ReadFlags = 0
		if r, st := tr.Read(nil, in, nil); r != nil || st != fuse.Status(want) {
			t.Errorf("uid %d: %v, want %v", uid, st, want)
		}
	}
	if diff := cmp.Diff([]string{"refuse a_db", "refuse a_db"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// If LOOKUP and READ waited, other users would wait too.
func TestOnlyOpenGetAttrAndAccessMayBeHeldBack(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	n := node(t, tr, "a_db.json")
	tr.Read(nil, read(bob, n, 0, 100), nil)
	page := read(alice, n, 0, 100)
	page.ReadFlags = 0
	tr.Read(nil, page, nil)
	tr.Open(nil, &fuse.OpenIn{InHeader: from(alice, n)}, new(fuse.OpenOut))
	tr.GetAttr(nil, &fuse.GetAttrIn{InHeader: from(alice, n)}, new(fuse.AttrOut))
	if len(s.paced) != 0 {
		t.Errorf("held back: %v", s.paced)
	}
	tr.Open(nil, &fuse.OpenIn{InHeader: from(bob, n)}, new(fuse.OpenOut))
	tr.GetAttr(nil, &fuse.GetAttrIn{InHeader: from(bob, n)}, new(fuse.AttrOut))
	tr.Access(nil, &fuse.AccessIn{InHeader: from(bob, n), Mask: fuse.R_OK})
	if diff := cmp.Diff(
		[]conn.Kind{conn.NotGranted, conn.NotGranted, conn.NotGranted}, s.paced,
	); diff != "" {
		t.Errorf("held back (-want +got):\n%s", diff)
	}
}

func TestEveryWriteIsRefused(t *testing.T) {
	tr := newTree(newStore(), false)
	attempts := map[string]func(uid uint32, file string) fuse.Status{
		"mknod": func(uid uint32, f string) fuse.Status {
			return tr.Mknod(nil, &fuse.MknodIn{InHeader: from(uid, 1)}, f, new(fuse.EntryOut))
		},
		"mkdir": func(uid uint32, f string) fuse.Status {
			return tr.Mkdir(nil, &fuse.MkdirIn{InHeader: from(uid, 1)}, f, new(fuse.EntryOut))
		},
		"unlink": func(uid uint32, f string) fuse.Status {
			h := from(uid, 1)
			return tr.Unlink(nil, &h, f)
		},
		"rmdir": func(uid uint32, f string) fuse.Status {
			h := from(uid, 1)
			return tr.Rmdir(nil, &h, f)
		},
		"rename": func(uid uint32, f string) fuse.Status {
			return tr.Rename(nil, &fuse.RenameIn{InHeader: from(uid, 1)}, f, "shared.json")
		},
		"link": func(uid uint32, f string) fuse.Status {
			return tr.Link(nil, &fuse.LinkIn{InHeader: from(uid, 1)}, f, new(fuse.EntryOut))
		},
		"symlink": func(uid uint32, f string) fuse.Status {
			h := from(uid, 1)
			return tr.Symlink(nil, &h, "/etc/passwd", f, new(fuse.EntryOut))
		},
		"create": func(uid uint32, f string) fuse.Status {
			return tr.Create(nil, &fuse.CreateIn{InHeader: from(uid, 1)}, f, new(fuse.CreateOut))
		},
		"open": func(uid uint32, f string) fuse.Status {
			for _, flags := range []uint32{
				syscall.O_WRONLY, syscall.O_RDWR, syscall.O_WRONLY | syscall.O_TRUNC,
			} {
				if st := tr.Open(
					nil, &fuse.OpenIn{InHeader: from(uid, node(t, tr, f)), Flags: flags},
					new(fuse.OpenOut),
				); st != fuse.EROFS {
					return st
				}
			}
			return fuse.EROFS
		},
		"setattr": func(uid uint32, f string) fuse.Status {
			return tr.SetAttr(
				nil,
				&fuse.SetAttrIn{
					SetAttrInCommon: fuse.SetAttrInCommon{InHeader: from(uid, node(t, tr, f))},
				},
				new(fuse.AttrOut),
			)
		},
		"access": func(uid uint32, f string) fuse.Status {
			return tr.Access(nil, &fuse.AccessIn{
				InHeader: from(uid, node(t, tr, f)), Mask: fuse.W_OK,
			})
		},
	}
	for name, attempt := range attempts {
		if st := attempt(alice, "a_db.json"); st != fuse.EROFS {
			t.Errorf("%s by who may read: %v, want EROFS", name, st)
		}
		for _, uid := range []uint32{bob, root} {
			if st := attempt(uid, "a_db.json"); st != fuse.EACCES {
				t.Errorf("%s by %d, who may not: %v, want EACCES", name, uid, st)
			}
			if st := attempt(uid, "no_such.json"); st != fuse.EACCES {
				t.Errorf("%s of nothing by %d: %v, want EACCES: existence shows", name, uid, st)
			}
		}
	}
	if st := tr.Access(
		nil, &fuse.AccessIn{InHeader: from(alice, node(t, tr, "a_db.json")), Mask: fuse.X_OK},
	); st != fuse.EACCES {
		t.Errorf("executing: %v", st)
	}
	if st := tr.Tmpfile(
		nil, &fuse.CreateIn{InHeader: from(alice, 1)}, new(fuse.CreateOut),
	); st != fuse.EROFS {
		t.Errorf("tmpfile: %v", st)
	}
	if _, st := tr.Write(nil, &fuse.WriteIn{}, nil); st != fuse.EROFS {
		t.Errorf("write: %v", st)
	}
	if st := tr.Fallocate(nil, &fuse.FallocateIn{}); st != fuse.EROFS {
		t.Errorf("fallocate: %v", st)
	}
	if st := tr.Ioctl(
		nil, &fuse.IoctlIn{}, nil, new(fuse.IoctlOut), nil,
	); st != fuse.Status(syscall.ENOTTY) {
		t.Errorf("ioctl: %v", st)
	}
	if st := tr.Flush(nil, &fuse.FlushIn{}); !st.Ok() {
		t.Errorf("flush: %v", st)
	}
}

// ask makes every request for a node that authorises, and returns the answers.
func ask(tr *tree, uid uint32, node uint64) map[string]fuse.Status {
	got := map[string]fuse.Status{
		"GETATTR": tr.GetAttr(
			nil, &fuse.GetAttrIn{InHeader: from(uid, node)}, new(fuse.AttrOut)),
		"SETATTR": tr.SetAttr(nil, &fuse.SetAttrIn{
			SetAttrInCommon: fuse.SetAttrInCommon{InHeader: from(uid, node)},
		}, new(fuse.AttrOut)),
	}
	for _, mask := range []uint32{0, fuse.R_OK, fuse.W_OK, fuse.X_OK} {
		got[fmt.Sprint("ACCESS ", mask)] = tr.Access(
			nil, &fuse.AccessIn{InHeader: from(uid, node), Mask: mask})
	}
	for _, flags := range []uint32{syscall.O_RDONLY, syscall.O_WRONLY} {
		got[fmt.Sprint("OPEN ", flags)] = tr.Open(
			nil, &fuse.OpenIn{InHeader: from(uid, node), Flags: flags}, new(fuse.OpenOut))
	}
	for _, flags := range []uint32{0, fuse.READ_LOCKOWNER} {
		in := read(uid, node, 0, 1)
		in.ReadFlags = flags
		_, got[fmt.Sprint("READ ", flags)] = tr.Read(nil, in, nil)
	}
	return got
}

const unknownNode = 123456789

// On ESTALE the kernel looks the name up again and repeats the request.
func TestANodeThatIsNotKnownIsStale(t *testing.T) {
	tr := newTree(newStore(), false)
	for call, st := range ask(tr, alice, unknownNode) {
		if st != stale {
			t.Errorf("%s: %v", call, st)
		}
	}
}

// From different answers a stranger could learn which names others may read, or use.
func TestWhoMayReadNothingGetsOneAnswerForEveryNode(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	used := node(t, tr, "a_db.json")
	tr.Open(nil, &fuse.OpenIn{InHeader: from(alice, used)}, new(fuse.OpenOut))
	openDir(t, tr, alice)
	tr.listing(conn.Caller{UID: alice})
	for _, uid := range []uint32{root, 65534} {
		h := from(uid, fuse.FUSE_ROOT_ID)
		var out fuse.EntryOut
		tr.Lookup(nil, &h, "a b.json", &out)
		nodes := map[string]uint64{
			"in use": used, "listed": tr.names.node("shared"), "unknown": unknownNode,
			"the stranger's": out.NodeId,
		}
		for which, node := range nodes {
			for call, st := range ask(tr, uid, node) {
				if st != fuse.EACCES {
					t.Errorf("uid %d, a node that is %s: %s: %v, want EACCES", uid, which, call, st)
				}
			}
		}
	}
	for _, call := range s.calls {
		if strings.HasSuffix(call, "shared") {
			t.Errorf("a node that only the listing has was found for a stranger: %s", call)
		}
	}
}

// A file that is mounted elsewhere has only a node: the kernel cannot look it up again.
func TestAListedNodeIsFoundForThoseWhoMayReadIt(t *testing.T) {
	tr := newTree(newStore(), false)
	node := tr.names.node("a_db")
	if st := ask(tr, alice, node)["OPEN 0"]; st != stale {
		t.Fatalf("before the first listing: %v", st)
	}
	openDir(t, tr, alice)
	for call, st := range ask(tr, bob, node) {
		if st != stale {
			t.Errorf("bob's %s: %v: it shows what is listed", call, st)
		}
	}
	for _, call := range []string{"GETATTR", "ACCESS 4", "READ 4", "OPEN 0"} {
		if st := ask(tr, alice, node)[call]; !st.Ok() && call != "READ 4" {
			t.Errorf("%s: %v", call, st)
		}
	}
	// What was opened stays known, listed or not.
	tr.listings.last.Store(nil)
	if id, ok := tr.names.id(node); id != "a_db" || !ok {
		t.Error("what was opened is forgotten")
	}
	tr.Forget(node, 1)
	if _, ok := tr.names.id(node); ok {
		t.Error("what the kernel gave back is remembered")
	}
}

// Names that are listed need no room besides.
func TestLookingUpWhatIsListedTakesNoRoom(t *testing.T) {
	tr := newTree(newStore(), false)
	openDir(t, tr, alice)
	readDir(t, tr, alice, 8192, true)
	for _, file := range []string{"a_db.json", "shared.json"} {
		node(t, tr, file)
	}
	if n := len(tr.names.byNode); n != 0 {
		t.Errorf("%d names are kept", n)
	}
	h := from(bob, fuse.FUSE_ROOT_ID)
	tr.Lookup(nil, &h, "a_db.json", new(fuse.EntryOut))
	if n := len(tr.names.byNode); n != 1 {
		t.Error("the name that a user may not read, but looked up, is not kept")
	}
	// All that the kernel was told counts.
	for range 2 {
		node(t, tr, "a_db.json")
	}
	readDir(t, tr, alice, 8192, true)
	tr.Forget(tr.names.node("a_db"), 3)
	if n := len(tr.names.byNode); n != 1 {
		t.Error("a name that the kernel holds is forgotten")
	}
	tr.Forget(tr.names.node("a_db"), 1)
	if n := len(tr.names.byNode); n != 0 {
		t.Error("a name that the kernel gave back is kept")
	}
}

func TestNodesDoNotShowAcrossTrees(t *testing.T) {
	a, b := newTree(newStore(), false), newTree(newStore(), false)
	if node(t, a, "a_db.json") == node(t, b, "a_db.json") {
		t.Error("the hash has no key: two trees give the same node")
	}
	if first, again := node(t, a, "a_db.json"), node(t, a, "a_db.json"); first != again {
		t.Error("a name's node changes")
	}
}

// readDir reads a directory to its end through a buffer of size bytes, as uid.
func readDir(t *testing.T, tr *tree, uid uint32, size int, plus bool) []entry {
	t.Helper()
	var all []entry
	for off := uint64(0); ; {
		in := &fuse.ReadIn{InHeader: from(uid, 1), Offset: off}
		out := fuse.NewDirEntryList(make([]byte, size), off)
		st := fuse.OK
		if plus {
			st = tr.ReadDirPlus(nil, in, out)
		} else {
			st = tr.ReadDir(nil, in, out)
		}
		if !st.Ok() {
			t.Fatal(st)
		}
		got := entries(t, out.Bytes(), plus)
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
		off = got[len(got)-1].next
	}
}

func openDir(t *testing.T, tr *tree, uid uint32) {
	t.Helper()
	var out fuse.OpenOut
	if st := tr.OpenDir(nil, &fuse.OpenIn{InHeader: from(uid, 1)}, &out); !st.Ok() {
		t.Fatal(st)
	}
	if out.OpenFlags != 0 || out.Fh != 0 {
		t.Errorf("flags %#x, handle %d: a listing is not for the cache that all share, and an "+
			"open directory costs nothing", out.OpenFlags, out.Fh)
	}
}

// fileNames returns the names, sorted.
func fileNames(all []entry) []string {
	var out []string
	for _, e := range all {
		out = append(out, e.name)
	}
	slices.Sort(out)
	return out
}

func TestAListingShowsEachCallerItsOwn(t *testing.T) {
	tr := newTree(newStore(), false)
	openDir(t, tr, alice)
	for uid, want := range map[uint32][]string{
		alice: {
			"%2Ehidden.json", ".", "..", "100%25.json", "a b.json", "a_db.json", "shared.json",
			"slash%2Fed.json",
		},
		bob:  {".", "..", "shared.json"}, // through a descriptor of alice's
		root: {".", ".."},
	} {
		for _, plus := range []bool{false, true} {
			for _, size := range []int{64*1024 + 1, 400, 300} {
				if diff := cmp.Diff(want, fileNames(readDir(t, tr, uid, size, plus))); diff != "" {
					t.Errorf("uid %d, %d bytes, plus %v (-want +got):\n%s", uid, size, plus, diff)
				}
			}
		}
	}
}

// What is there all the time is shown once, whatever comes and goes while a directory is read.
func TestAListingOfManyContinuesWhereItEnded(t *testing.T) {
	s := newStore()
	want := []string{".", ".."}
	for i := range 5000 {
		id := fmt.Sprintf("id_%05d", i)
		s.content[id] = ""
		if i%3 == 0 {
			s.grants[bob] = append(s.grants[bob], id)
			want = append(want, id+".json")
		}
	}
	want = append(want, "shared.json")
	for i := range 100 {
		s.grants[bob] = append(s.grants[bob], fmt.Sprint("new_", i))
	}
	tr := newTree(s, false)
	openDir(t, tr, bob)
	var all []entry
	for off, page := uint64(0), 0; ; page++ {
		out := fuse.NewDirEntryList(make([]byte, 4096), off)
		tr.ReadDir(nil, &fuse.ReadIn{InHeader: from(bob, 1), Offset: off}, out)
		got := entries(t, out.Bytes(), false)
		if len(got) == 0 {
			break
		}
		// The reader may take only a part of them.
		got = got[:max(1, len(got)-page%3)]
		all = append(all, got...)
		off = got[len(got)-1].next
		s.content[fmt.Sprint("new_", page)] = ""
		delete(s.content, fmt.Sprint("new_", page-5))
		openDir(t, tr, bob)
	}
	names := slices.DeleteFunc(fileNames(all), func(name string) bool {
		return strings.HasPrefix(name, "new_")
	})
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(all, func(a, b entry) int { return cmpInt(a.next, b.next) }) {
		t.Error("the offsets do not rise")
	}
	if last := all[len(all)-1].next; last > math.MaxInt32 {
		t.Errorf("the offset %#x does not fit into 31 bits", last)
	}
}

func cmpInt(a, b uint64) int {
	if a <= b {
		return -1
	}
	return 1
}

// rewinddir(3) shows what is known now, and leaves it to the provider to ask for more: while
// READDIR waits the kernel holds what other users need.
func TestARewoundDirectoryShowsWhatIsNew(t *testing.T) {
	s := newStore()
	tr := newTree(s, false)
	openDir(t, tr, alice)
	before := fileNames(readDir(t, tr, alice, 8192, false))
	s.grants[alice] = append(s.grants[alice], "new")
	s.content["new"] = ""
	s.listed = append([]string{"new"}, s.listed...)
	after := fileNames(readDir(t, tr, alice, 8192, false))
	want := slices.Sorted(slices.Values(append(before, "new.json")))
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.lists != 1 {
		t.Errorf("READDIR waited for %d listings", s.lists-1)
	}
}

func TestTwoNodesWithOneOffsetAreBothListed(t *testing.T) {
	nodes := map[string]uint64{
		"a": 5 << 34, "b": 5<<34 + 1, "c": 6 << 34, "d": 1, "e": 0, "f": math.MaxUint64,
	}
	ids := slices.Sorted(maps.Keys(nodes))
	l := newListing(ids, func(id string) uint64 { return nodes[id] })
	var got []string
	for off := uint64(parentCookie); ; {
		rest := l.after(off)
		if len(rest) == 0 {
			break
		}
		got = append(got, fmt.Sprint(ids[rest[0].index], " ", rest[0].cookie))
		off = uint64(rest[0].cookie)
	}
	want := []string{"e 3", "d 4", "a 5", "b 6", "c 7", "f 1073741823"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for id, node := range nodes {
		if got, ok := l.id(node); got != id || !ok {
			t.Errorf("node %#x: %q, want %q", node, got, id)
		}
	}
	if _, ok := l.id(77); ok {
		t.Error("a node that is not listed is found")
	}
}

func TestReadDirPlusGivesAttributesOnlyWhereUsersMayShareThem(t *testing.T) {
	for _, share := range []bool{false, true} {
		s := newStore()
		s.fail["a b"] = conn.Errorf(conn.Timeout, "", "slow")
		tr := newTree(s, share)
		openDir(t, tr, alice)
		for _, e := range readDir(t, tr, alice, 8192, true) {
			if e.name == "." || e.name == ".." {
				if e.plus.NodeId != 0 {
					t.Errorf("%s has a node", e.name)
				}
				continue
			}
			if e.plus.NodeId != node(t, tr, e.name) || e.ino != inode(e.plus.NodeId) ||
				e.plus.Ino != e.ino || e.plus.Owner != (fuse.Owner{}) {
				t.Errorf("%s: node %x, inode %x, %+v", e.name, e.plus.NodeId, e.ino, e.plus.Attr)
			}
			want := map[string]uint64{
				"a_db.json": 7, "shared.json": unknownSize, "a b.json": unknownSize,
			}[e.name]
			if !share {
				want = entrySize
			}
			if want != 0 && e.plus.Size != want {
				t.Errorf("share_names %v, %s: size %d, want %d", share, e.name, e.plus.Size, want)
			}
			if e.plus.EntryTimeout() != time.Minute || e.plus.AttrTimeout() > 0 != share {
				t.Errorf("%s: entry for %v, attributes for %v", e.name, e.plus.EntryTimeout(),
					e.plus.AttrTimeout())
			}
		}
	}
}

func TestAListingFromAnyOffsetEnds(t *testing.T) {
	tr := newTree(newStore(), false)
	openDir(t, tr, alice)
	for _, off := range []uint64{1 << 31, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		out := fuse.NewDirEntryList(make([]byte, 4096), off)
		if st := tr.ReadDir(
			nil, &fuse.ReadIn{InHeader: from(alice, 1), Offset: off}, out,
		); !st.Ok() ||
			len(out.Bytes()) != 0 {
			t.Errorf("from %d: %v, %d bytes", off, st, len(out.Bytes()))
		}
	}
}

func TestAListingThatFailsHasAnErrno(t *testing.T) {
	s := newStore()
	s.listErr = conn.Errorf(conn.Interrupted, "", "")
	if st := newTree(s, false).OpenDir(
		nil, &fuse.OpenIn{InHeader: from(alice, 1)}, new(fuse.OpenOut),
	); st != fuse.EINTR {
		t.Errorf("%v", st)
	}
}

func TestOptionsKeepTheKernelAsking(t *testing.T) {
	var o fuse.MountOptions
	Options(&o)
	if !o.DisableXAttrs || !o.DisableSplice || o.FsName != "connfs" || o.Name != "connfs" {
		t.Errorf("%+v", o)
	}
	if o.ExtraCapabilities&fuse.CAP_ASYNC_DIO == 0 {
		t.Error("io_uring readers would get repeated data")
	}
	if o.DisabledCapabilities&fuse.CAP_NO_OPEN_SUPPORT == 0 ||
		o.DisabledCapabilities&fuse.CAP_ALLOW_IDMAP == 0 {
		t.Error("the kernel may stop asking, or stop saying who asks")
	}
	if slices.Contains(o.Options, "default_permissions") || o.IDMappedMount {
		t.Error("the kernel decides in the daemon's place")
	}
}

// If one of these is answered ENOSYS even once, the kernel answers it itself ever after.
func TestNoAuthorisingRequestIsLeftToTheDefault(t *testing.T) {
	own := reflect.TypeFor[*tree]()
	for _, name := range []string{
		"Lookup", "GetAttr", "Access", "Open", "Read", "OpenDir", "ReadDir", "ReadDirPlus",
		"SetAttr", "Create", "Flush",
	} {
		m, ok := own.MethodByName(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		f := reflect.ValueOf(newTree(newStore(), false)).Method(m.Index)
		// All arguments are there but empty: a request for node 0.
		var args []reflect.Value
		for i := range f.Type().NumIn() {
			if a := f.Type().In(i); a.Kind() == reflect.Pointer {
				args = append(args, reflect.New(a.Elem()))
			} else {
				args = append(args, reflect.Zero(a))
			}
		}
		out := f.Call(args)
		if st := out[len(out)-1].Interface().(fuse.Status); st == fuse.ENOSYS {
			t.Errorf("%s answers ENOSYS", name)
		}
	}
}
