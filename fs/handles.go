package fs

import (
	"sync"
	"sync/atomic"
)

// A handle is the version of the content that was opened, so that it means the same to a daemon
// that takes over after a restart, and a number that tells the opens of one version apart.
//
// Between OPEN and the first READ the content can change. Nothing was read yet, so the first READ
// serves what there is then, and the handle stands for that version from now on: a file that was
// just opened never reads as ESTALE. Only such handles are remembered, and only so many.
//
// Every open asks four times, so the handles are in several tables: one lock for all of them would
// be the one that all readers wait for.
type handles struct {
	last   atomic.Uint32
	tables [handleTables]handleTable
}

// handleTables is a power of two.
const handleTables = 64

// handleTable is the handles of some numbers.
type handleTable struct {
	mu    sync.Mutex
	fresh map[handle]struct{} // opened, and nothing read
	moved map[handle]uint32   // what was read is another version than what was opened
	_     [64]byte            // a table is no neighbour of another in the processors' caches
}

// table returns the table of a handle, by its number.
func (h *handles) table(fh uint64) *handleTable { return &h.tables[fh%handleTables] }

// handle is one open of a node.
type handle struct{ node, fh uint64 }

// maxHandles bounds the handles of each kind. One that is forgotten stands for what was opened.
const maxHandles = 1 << 16

// add returns the handle of an open of this version.
func (h *handles) add(node uint64, version uint32) (fh uint64) {
	for {
		k := handle{node, uint64(version)<<32 | uint64(h.last.Add(1))}
		if h.table(k.fh).add(k) {
			return k.fh
		}
	}
}

// add reports false if there is such a handle already.
func (t *handleTable) add(k handle) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fresh == nil {
		t.fresh, t.moved = make(map[handle]struct{}), make(map[handle]uint32)
	}
	_, fresh := t.fresh[k]
	if _, moved := t.moved[k]; fresh || moved {
		return false
	}
	makeRoom(t.fresh)
	t.fresh[k] = struct{}{}
	return true
}

// version returns the version that a READ has to serve, and 0 if it may serve any.
func (h *handles) version(k handle) uint32 {
	t := h.table(k.fh)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version(k)
}

// version is handles.version; t.mu is held.
func (t *handleTable) version(k handle) uint32 {
	if _, fresh := t.fresh[k]; fresh {
		return 0
	}
	if v, ok := t.moved[k]; ok {
		return v
	}
	return uint32(k.fh >> 32)
}

// read notes that a READ is about to serve a version. It reports false if another READ of the
// handle has served another one meanwhile.
func (h *handles) read(k handle, version uint32) bool {
	t := h.table(k.fh)
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := t.version(k); v != 0 {
		return v == version
	}
	delete(t.fresh, k)
	if version != uint32(k.fh>>32) {
		makeRoom(t.moved)
		t.moved[k] = version
	}
	return true
}

// release forgets a handle that was closed.
func (h *handles) release(k handle) {
	t := h.table(k.fh)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.fresh, k)
	delete(t.moved, k)
}

// makeRoom takes any entry out of a table that is full.
func makeRoom[V any](table map[handle]V) {
	if len(table) < maxHandles/handleTables {
		return
	}
	for k := range table {
		delete(table, k)
		return
	}
}
