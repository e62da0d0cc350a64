package fs

import "sync"

// A handle is the version of the content that was opened, so that it means the same to a daemon
// that takes over after a restart, and a number that tells the opens of one version apart.
//
// Between OPEN and the first READ the content can change. Nothing was read yet, so the first READ
// serves what there is then, and the handle stands for that version from now on: a file that was
// just opened never reads as ESTALE. Only such handles are remembered, and only so many.
type handles struct {
	mu    sync.Mutex
	last  uint32
	fresh map[handle]struct{} // opened, and nothing read
	moved map[handle]uint32   // what was read is another version than what was opened
}

// handle is one open of a node.
type handle struct{ node, fh uint64 }

// maxHandles bounds each table. A handle that is forgotten stands for what was opened.
const maxHandles = 1 << 16

// add returns the handle of an open of this version.
func (h *handles) add(node uint64, version uint32) (fh uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fresh == nil {
		h.fresh, h.moved = make(map[handle]struct{}), make(map[handle]uint32)
	}
	for {
		h.last++
		k := handle{node, uint64(version)<<32 | uint64(h.last)}
		_, fresh := h.fresh[k]
		if _, moved := h.moved[k]; fresh || moved {
			continue
		}
		makeRoom(h.fresh)
		h.fresh[k] = struct{}{}
		return k.fh
	}
}

// version returns the version that a READ has to serve, and 0 if it may serve any.
func (h *handles) version(k handle) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.versionOf(k)
}

func (h *handles) versionOf(k handle) uint32 {
	if _, fresh := h.fresh[k]; fresh {
		return 0
	}
	if v, ok := h.moved[k]; ok {
		return v
	}
	return uint32(k.fh >> 32)
}

// read notes that a READ is about to serve a version. It reports false if another READ of the
// handle has served another one meanwhile.
func (h *handles) read(k handle, version uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.versionOf(k); v != 0 {
		return v == version
	}
	delete(h.fresh, k)
	if version != uint32(k.fh>>32) {
		makeRoom(h.moved)
		h.moved[k] = version
	}
	return true
}

// release forgets a handle that was closed.
func (h *handles) release(k handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.fresh, k)
	delete(h.moved, k)
}

// makeRoom takes any entry out of a table that is full.
func makeRoom[V any](table map[handle]V) {
	if len(table) < maxHandles {
		return
	}
	for k := range table {
		delete(table, k)
		return
	}
}
