package metastore

import (
	"context"
	"slices"
	"sync"

	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/resolve/backend"
)

// gate shares a server's few connections out among callers. One caller gets at most mostOfOne
// of them, and a caller who has fewer comes before one who has more: nobody's slow requests
// can hold up all the others.
type gate struct {
	mu      sync.Mutex
	held    map[uint32]int // places, by caller
	used    int            // places
	waiting []*waiter      // in the order in which they came
}

type waiter struct {
	caller uint32
	place  chan struct{} // closed when the waiter has a place
}

// enter waits for a place for the caller of ctx. Its error is that ctx ended.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	w := &waiter{caller: network.Caller(ctx), place: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.admit()
	g.mu.Unlock()
	leave = sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.used--
		if g.held[w.caller]--; g.held[w.caller] == 0 {
			delete(g.held, w.caller)
		}
		g.admit()
	})
	select {
	case <-w.place:
		return leave, nil
	default:
	}
	done := network.Queued(ctx)
	select {
	case <-w.place:
		done()
		return leave, nil
	case <-ctx.Done():
	}
	// It stays a waiting request, and so says nothing of the server.
	g.mu.Lock()
	i := slices.Index(g.waiting, w)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 {
		leave()
	}
	return nil, backend.ContextError("metastore", ctx.Err())
}

// admit gives free places away. The lock is held.
func (g *gate) admit() {
	for g.used < maxConns {
		best := -1
		for i, w := range g.waiting {
			n := g.held[w.caller]
			if n < mostOfOne && (best < 0 || n < g.held[g.waiting[best].caller]) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := g.waiting[best]
		g.waiting = slices.Delete(g.waiting, best, best+1)
		if g.held == nil {
			g.held = make(map[uint32]int)
		}
		g.held[w.caller]++
		g.used++
		close(w.place)
	}
}
