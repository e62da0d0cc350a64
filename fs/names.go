package fs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// How many ids the daemon remembers the names of. A node that was forgotten is
// answered with ESTALE, upon which the kernel looks the name up again.
const (
	maxNames = 1 << 17 // of ids that somebody may be allowed to read
	// of ids that nobody may; kept apart, so that inventing them costs the others nothing
	maxUngranted  = 1 << 13
	keyBytes      = 32
	firstFileNode = fuse.FUSE_ROOT_ID + 1
)

// names maps node ids, which are a keyed hash of the connection's id, back to it:
// OPEN and READ carry nothing else. The key keeps anybody from finding two names
// with the same node.
type names struct {
	key []byte

	hashes sync.Pool

	mu        sync.RWMutex
	granted   table
	ungranted table
}

// table is a bounded map that forgets the oldest entry first, but gives one that
// was used a second chance.
type table struct {
	ids   map[uint64]*name
	queue []uint64 // ring
	next  int
}

type name struct {
	id   string
	used bool // opened since it last stood at the end of the queue
}

func newNames() *names {
	n := &names{key: make([]byte, keyBytes)}
	rand.Read(n.key)
	n.hashes.New = func() any { return sha256.New() }
	n.granted = table{ids: make(map[uint64]*name), queue: make([]uint64, 0, maxNames)}
	n.ungranted = table{ids: make(map[uint64]*name), queue: make([]uint64, 0, maxUngranted)}
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

// remember returns the node id of id and keeps the way back.
func (n *names) remember(id string, granted bool) uint64 {
	node := n.node(id)
	n.keep(node, id, granted)
	return node
}

// keep is remember for a node that was computed before.
func (n *names) keep(node uint64, id string, granted bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if granted {
		n.granted.put(node, id)
	} else {
		n.ungranted.put(node, id)
	}
}

// id returns the connection's id of a node, and false if it was forgotten.
func (n *names) id(node uint64) (string, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if e := n.granted.ids[node]; e != nil {
		return e.id, true
	}
	if e := n.ungranted.ids[node]; e != nil {
		return e.id, true
	}
	return "", false
}

// opened notes that a node is in use.
func (n *names) opened(node uint64) {
	n.mu.RLock()
	e := n.granted.ids[node]
	used := e == nil || e.used
	n.mu.RUnlock()
	if used {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e.used = true
}

func (t *table) put(node uint64, id string) {
	if t.ids[node] != nil {
		return
	}
	t.ids[node] = &name{id: id}
	if len(t.queue) < cap(t.queue) {
		t.queue = append(t.queue, node)
		return
	}
	for {
		old := t.queue[t.next]
		if e := t.ids[old]; e.used {
			e.used = false
			t.next = (t.next + 1) % len(t.queue)
			continue
		}
		delete(t.ids, old)
		t.queue[t.next] = node
		t.next = (t.next + 1) % len(t.queue)
		return
	}
}
