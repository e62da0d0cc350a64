package fs

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

const (
	root    = 0
	alice   = 1001
	bob     = 1002
	version = 42
)

// changed is when every content of a store last changed.
var changed = time.Unix(1_600_000_000, 123_456_789)

// store is a Provider over a map: who may read what, and the content.
type store struct {
	grants  map[uint32][]string
	content map[string]string
	unknown map[string]bool // the size of these is not known yet
	fail    map[string]error
	changes map[string]uint32 // how often the content changed
	listErr error
	listed  []string

	mu      sync.Mutex
	calls   []string // Open, Read and Refuse
	callers []conn.Caller
	pinned  int // replies not released
	paced   []conn.Kind
	lists   int
}

func newStore() *store {
	return &store{
		grants: map[uint32][]string{
			alice: {"a_db", "a b", "shared", "slash/ed", ".hidden", "100%"}, bob: {"shared"},
		},
		content: map[string]string{
			"a_db": "alice's", "a b": "x", "shared": "for two", "slash/ed": "s", ".hidden": "h",
			"100%": "p", "bobs": "b",
		},
		unknown: map[string]bool{"shared": true},
		fail:    map[string]error{}, changes: map[string]uint32{},
	}
}

func (s *store) note(call string, c conn.Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	s.callers = append(s.callers, c)
}

func (s *store) ReadsAnything(c conn.Caller) bool { return len(s.grants[c.UID]) > 0 }

func (s *store) MayRead(c conn.Caller, id string) bool {
	return slices.Contains(s.grants[c.UID], id)
}

func (s *store) decide(c conn.Caller, id string) error {
	if !s.MayRead(c, id) {
		return conn.Errorf(conn.NotGranted, "", "no grant")
	}
	if err := s.fail[id]; err != nil {
		return err
	}
	if _, ok := s.content[id]; !ok {
		return conn.Errorf(conn.Absent, "", "no such connection")
	}
	return nil
}

func (s *store) Stat(c conn.Caller, id string) (int, time.Time, error) {
	if err := s.decide(c, id); err != nil {
		return 0, time.Time{}, err
	}
	if s.unknown[id] {
		return -1, changed, nil
	}
	return len(s.content[id]), changed, nil
}

func (s *store) Open(_ <-chan struct{}, c conn.Caller, id string) (uint32, error) {
	s.note("open "+id, c)
	if err := s.decide(c, id); err != nil {
		return 0, err
	}
	return s.version(id), nil
}

// version is that of what id has now.
func (s *store) version(id string) uint32 { return version + s.changes[id] }

func (s *store) Read(
	_ <-chan struct{}, c conn.Caller, id string, v uint32, off, n int,
) ([][]byte, uint32, func(), error) {
	s.note("read "+id, c)
	if err := s.decide(c, id); err != nil {
		return nil, 0, nil, err
	}
	now := s.version(id)
	if v != 0 && v != now {
		return nil, 0, nil, conn.Errorf(conn.Changed, "", "changed")
	}
	text := s.content[id]
	if off >= len(text) || n == 0 {
		return nil, now, nil, nil
	}
	text = text[off:min(len(text), off+n)]
	s.mu.Lock()
	s.pinned++
	s.mu.Unlock()
	// Two parts, as those of a value on two pages.
	half := len(text) / 2
	return [][]byte{[]byte(text[:half]), []byte(text[half:])}, now, func() {
		s.mu.Lock()
		s.pinned--
		s.mu.Unlock()
	}, nil
}

func (s *store) Refuse(c conn.Caller, id string, err error) error {
	s.note("refuse "+id, c)
	if e := s.decide(c, id); e != nil {
		return e
	}
	return err
}

func (s *store) Pace(_ <-chan struct{}, c conn.Caller, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paced = append(s.paced, conn.KindOf(err))
}

// List takes a new listing; Listed has the last one.
func (s *store) List(_ <-chan struct{}, c conn.Caller) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	if s.listErr != nil {
		return nil, s.listErr
	}
	s.listed = slices.Sorted(maps.Keys(s.content))
	return s.listed, nil
}

func (s *store) Listed(c conn.Caller) []string {
	if !s.ReadsAnything(c) {
		return nil
	}
	return s.listed
}

func newTree(s *store, share bool) *tree {
	return New(Config{Provider: s, Mount: "/conn", ShareNames: share}).(*tree)
}

// from forges the header of a request, as the kernel would fill it in.
func from(uid uint32, node uint64) fuse.InHeader {
	return fuse.InHeader{
		NodeId: node, Unique: 9,
		Caller: fuse.Caller{Owner: fuse.Owner{Uid: uid, Gid: uid + 1}, Pid: 77},
	}
}

// node looks a file name up and returns its node.
func node(t *testing.T, tr *tree, file string) uint64 {
	t.Helper()
	h := from(alice, fuse.FUSE_ROOT_ID)
	var out fuse.EntryOut
	if st := tr.Lookup(nil, &h, file, &out); !st.Ok() {
		t.Fatalf("looking up %q: %v", file, st)
	}
	return out.NodeId
}

// entry is one of a listing.
type entry struct {
	name string
	next uint64 // offset
	ino  uint64
	plus fuse.EntryOut
}

// entries reads the bytes that would go to the kernel.
func entries(t *testing.T, buf []byte, plus bool) []entry {
	t.Helper()
	// struct fuse_dirent: ino, off, namelen, type, name, padding to 8.
	const fixed = 24
	var out []entry
	for len(buf) >= fixed {
		var e entry
		if plus {
			e.plus = *(*fuse.EntryOut)(unsafe.Pointer(&buf[0]))
			buf = buf[unsafe.Sizeof(e.plus):]
		}
		e.ino, e.next = binary.LittleEndian.Uint64(buf), binary.LittleEndian.Uint64(buf[8:])
		n := int(binary.LittleEndian.Uint32(buf[16:]))
		if n == 0 {
			break
		}
		e.name = string(buf[fixed : fixed+n])
		buf = buf[(fixed+n+7)/8*8:]
		out = append(out, e)
	}
	if len(bytes.Trim(buf, "\x00")) > 0 {
		t.Fatalf("%d bytes behind the last entry", len(buf))
	}
	return out
}
