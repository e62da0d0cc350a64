package fs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// For how many ids the tree remembers which node is theirs. A request for a node that was
// forgotten is answered with ESTALE, and then the kernel looks the name up again.
const (
	// maxNames is for ids that somebody may be allowed to read.
	maxNames = 1 << 17
	// maxUngranted is for ids that nobody may read. They are kept apart, so that a user who
	// invents ids makes the tree forget no others.
	maxUngranted = 1 << 13

	keyBytes      = 32
	firstFileNode = fuse.FUSE_ROOT_ID + 1
)

// names finds the connection's id for a node id, since OPEN and READ carry nothing else. A
// node id is a keyed hash of the connection's id. Without the key nobody can find two names
// with the same node.
type names struct {
	key []byte

	hashes sync.Pool

	mu        sync.RWMutex
	granted   table
	ungranted table
}

// table is a bounded map. It forgets the oldest entry first, except that an entry that was
// opened since is kept for one more round.
type table struct {
	ids   map[uint64]*name
	queue []uint64 // ring
	next  int
}

type name struct {
	id   string
	used bool // opened since it was added, or last spared
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

// remember returns the node id of id, and remembers which id the node stands for.
func (n *names) remember(id string, granted bool) uint64 {
	node := n.node(id)
	n.keep(node, id, granted)
	return node
}

// keep remembers that node stands for id.
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
