package fs

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// What names are remembered is bounded in bytes. A name that was dropped is looked up again by
// the kernel, except where something holds its node without a path: an open descriptor, or a
// file that is mounted elsewhere.
const (
	// readersBytes is for names that were looked up or opened by users who may read them:
	// more than 100,000 of the usual length.
	readersBytes = 32 << 20
	// othersBytes is for all other names, whatever they match.
	othersBytes = 1 << 20
	// holdBytes is what a name of no length occupies, and placeBytes a place without names.
	holdBytes, placeBytes = 256, 512
	// sample is of how many users the one with most names is found that has to drop one.
	sample = 16

	keyBytes      = 32
	firstFileNode = fuse.FUSE_ROOT_ID + 1
)

// names finds the connection's id for a node id, since OPEN and READ carry nothing else. A
// node id is a keyed hash of the connection's id. Without the key nobody can find two names
// with the same node.
//
// A name is kept as long as the kernel holds its node. Who made the kernel look it up pays for
// it, out of a place of their own, and so does everybody who opens it: no user can make the tree
// forget what another one uses.
type names struct {
	key []byte

	hashes sync.Pool

	mu      sync.RWMutex
	byNode  map[uint64]*name
	readers class
	others  class
}

// name is the id of a node.
type name struct {
	id string
	// lookups is how often the kernel was told the node, less what it gave back, as far as
	// known: while nobody held the name nobody counted.
	lookups uint64
	holds   []*hold // one for each place
}

// class is places that share a bound.
type class struct {
	limit  int // in bytes
	bytes  int
	places map[uint32]*place // by uid
}

// place is the names that one user looked up or opened.
type place struct {
	bytes int
	holds map[uint64]*hold // by node
	queue list.List        // of *hold, the oldest first
}

// hold is a name in a place.
type hold struct {
	node    uint64
	name    *name
	uid     uint32 // of the place
	class   *class
	element *list.Element
	used    atomic.Bool // opened since it was added, or last spared
}

func newNames() *names {
	n := &names{key: make([]byte, keyBytes), byNode: make(map[uint64]*name)}
	rand.Read(n.key)
	n.hashes.New = func() any { return sha256.New() }
	n.readers = class{limit: readersBytes, places: make(map[uint32]*place)}
	n.others = class{limit: othersBytes, places: make(map[uint32]*place)}
	return n
}

// node returns the node id of a connection's id, without remembering it.
func (n *names) node(id string) uint64 {
	h := n.hashes.Get().(hash.Hash)
	defer n.hashes.Put(h)
	h.Reset()
	h.Write(n.key)
	h.Write([]byte(id))
	var sum [sha256.Size]byte
	return max(binary.LittleEndian.Uint64(h.Sum(sum[:0])), firstFileNode)
}

// id returns the connection's id of a node, and false if it is not known.
func (n *names) id(node uint64) (string, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if e := n.byNode[node]; e != nil {
		return e.id, true
	}
	return "", false
}

// lookedUp notes that uid, who may read id or not, made the kernel look id up.
func (n *names) lookedUp(node uint64, id string, uid uint32, reads bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &n.others
	if reads {
		c = &n.readers
	}
	n.hold(node, id, uid, c)
	n.byNode[node].lookups++
}

// told notes that the kernel was told the node of a name that need not be kept, because the
// listing has it.
func (n *names) told(node uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.byNode[node]; e != nil {
		e.lookups++
	}
}

// opened notes that uid, who may read id, opened it.
func (n *names) opened(node uint64, id string, uid uint32) {
	n.mu.RLock()
	var h *hold
	if p := n.readers.places[uid]; p != nil {
		h = p.holds[node]
	}
	n.mu.RUnlock()
	if h == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		h = n.hold(node, id, uid, &n.readers)
	}
	if !h.used.Load() { // a store would be noticed by all processors each time
		h.used.Store(true)
	}
}

// forget notes that the kernel gave a node back that it was told so many times.
func (n *names) forget(node, lookups uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.byNode[node]
	if e == nil {
		return
	}
	if e.lookups > lookups {
		e.lookups -= lookups
		return
	}
	for len(e.holds) > 0 {
		n.drop(e.holds[0])
	}
}

// hold returns the hold of node in the place of uid, which it makes if there is none. n.mu is
// held.
func (n *names) hold(node uint64, id string, uid uint32, c *class) *hold {
	if p := c.places[uid]; p != nil {
		if h := p.holds[node]; h != nil {
			return h
		}
	}
	e := n.byNode[node]
	if e == nil {
		// What id is a part of, such as a whole listing, must not stay with it.
		e = &name{id: strings.Clone(id)}
	}
	h := &hold{node: node, name: e, uid: uid, class: c}
	for more := h.bytes() + placeBytes; len(c.places) > 0 && c.bytes+more > c.limit; {
		n.dropOldest(c.payer(uid, more))
	}
	p := c.places[uid]
	if p == nil {
		p = &place{bytes: placeBytes, holds: make(map[uint64]*hold)}
		c.places[uid] = p
		c.bytes += placeBytes
	}
	p.holds[node], h.element = h, p.queue.PushBack(h)
	p.bytes += h.bytes()
	c.bytes += h.bytes()
	e.holds = append(e.holds, h)
	n.byNode[node] = e
	return h
}

// bytes is about what h occupies.
func (h *hold) bytes() int { return holdBytes + len(h.name.id) }

// payer returns the place that has to drop names so that uid can have more bytes: that of uid
// if it has its share, and otherwise one that has a lot.
func (c *class) payer(uid uint32, more int) *place {
	own := c.places[uid]
	if own != nil && (own.bytes+more)*len(c.places) > c.limit {
		return own
	}
	var largest *place
	seen := 0
	for _, p := range c.places { // in random order
		if largest == nil || p.bytes > largest.bytes {
			largest = p
		}
		if seen++; seen == sample {
			break
		}
	}
	return largest
}

// dropOldest drops the oldest name of p, but spares what was opened since it was added, once.
// n.mu is held.
func (n *names) dropOldest(p *place) {
	for {
		h := p.queue.Front().Value.(*hold)
		if !h.used.Swap(false) {
			n.drop(h)
			return
		}
		p.queue.MoveToBack(h.element)
	}
}

// drop takes a name out of a place, and forgets it if it is in no other. n.mu is held.
func (n *names) drop(h *hold) {
	p := h.class.places[h.uid]
	p.queue.Remove(h.element)
	delete(p.holds, h.node)
	p.bytes -= h.bytes()
	h.class.bytes -= h.bytes()
	if len(p.holds) == 0 {
		delete(h.class.places, h.uid)
		h.class.bytes -= placeBytes
	}
	h.name.holds = slices.DeleteFunc(h.name.holds, func(x *hold) bool { return x == h })
	if len(h.name.holds) == 0 {
		delete(n.byNode, h.node)
	}
}
