package fs

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// listing is the ids that the backends hold, in the order of their nodes. A directory is read
// in this order, so that the place where a reader continues does not depend on what else is
// listed: an open directory needs no snapshot, and costs nothing.
type listing struct {
	ids     []string // of the provider, sorted
	entries []listed // by node
}

// listed is an id of a listing.
type listed struct {
	node   uint64
	cookie uint32 // where in the directory a reader continues after it
	index  uint32 // in listing.ids
}

// Cookies of "." and "..", and the first of a file.
const (
	selfCookie = 1 + iota
	parentCookie
	firstCookie
)

// newListing puts ids in order.
func newListing(ids []string, node func(id string) uint64) *listing {
	l := &listing{ids: ids, entries: make([]listed, 0, len(ids))}
	for i, id := range ids {
		if _, ok := conn.FileName(id); ok {
			l.entries = append(l.entries, listed{node: node(id), index: uint32(i)})
		}
	}
	slices.SortFunc(l.entries, func(a, b listed) int { return cmp.Compare(a.node, b.node) })
	last := uint32(firstCookie - 1)
	for i := range l.entries {
		// To 32-bit programs an offset has 31 bits, so two nodes may have the same one.
		e := &l.entries[i]
		e.cookie = max(uint32(e.node>>34), last+1)
		last = e.cookie
	}
	return l
}

// after returns the entries where a reader continues at this offset.
func (l *listing) after(offset uint64) []listed {
	i, _ := slices.BinarySearchFunc(l.entries, offset, func(e listed, offset uint64) int {
		if uint64(e.cookie) <= offset {
			return -1
		}
		return 1
	})
	return l.entries[i:]
}

// id returns the id of a node, if it is listed.
func (l *listing) id(node uint64) (string, bool) {
	i, ok := slices.BinarySearchFunc(l.entries, node, func(e listed, node uint64) int {
		return cmp.Compare(e.node, node)
	})
	if !ok {
		return "", false
	}
	return l.ids[l.entries[i].index], true
}

// listings holds the last listing that was not empty.
type listings struct {
	mu   sync.Mutex // for making one
	last atomic.Pointer[listing]
}

// same reports whether l was made of this very slice.
func (l *listing) same(ids []string) bool {
	return l != nil && len(l.ids) == len(ids) && &l.ids[0] == &ids[0]
}

// of returns the listing of ids.
func (s *listings) of(ids []string, node func(id string) uint64) *listing {
	if len(ids) == 0 {
		return &listing{}
	}
	if l := s.last.Load(); l.same(ids) {
		return l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.last.Load(); l.same(ids) {
		return l
	}
	l := newListing(ids, node)
	s.last.Store(l)
	return l
}

// id returns the id of a node, if it is in the last listing.
func (s *listings) id(node uint64) (string, bool) {
	if l := s.last.Load(); l != nil {
		return l.id(node)
	}
	return "", false
}

// listing returns what the backends hold, as far as that concerns the caller. It asks nobody.
func (t *tree) listing(c conn.Caller) *listing {
	return t.listings.of(t.Provider.Listed(c), t.names.node)
}

// find returns the id of a node, and false if it is not known. To callers who may read nothing
// an unknown node is a name like any other: it gets the empty id, which no connection has, so
// that all nodes have one answer for them.
func (t *tree) find(c conn.Caller, node uint64) (id string, ok bool) {
	if id, ok := t.names.id(node); ok {
		return id, true
	}
	if !t.Provider.ReadsAnything(c) {
		return "", true
	}
	id, ok = t.listings.id(node)
	if !ok {
		// The last listing may be old, or there was none yet.
		id, ok = t.listing(c).id(node)
	}
	if !ok || !t.Provider.MayRead(c, id) {
		return "", false
	}
	// Whoever keeps the id must not keep the whole listing, of which it is a part.
	return strings.Clone(id), true
}

// stale answers a request for a node that is not known. The kernel looks the name up again
// where it has a path, and repeats the request.
const stale = fuse.Status(syscall.ESTALE)
