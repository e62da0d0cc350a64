package resolver

import (
	"context"
	"sync"

	"github.com/connfs/connfs/internal/cache"
)

// identity is what one generation of children hands to the next: connfs's own logins,
// as an opaque blob in a locked slot. Children die young, and without it each would
// log in to the cloud anew.
type identity struct {
	mu     sync.Mutex
	blob   *cache.Value // nil: nobody has logged in yet
	closed bool
}

// keep replaces the blob, which the identity then owns.
func (i *identity) keep(blob *cache.Value) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		blob.Release()
		return
	}
	if i.blob != nil {
		i.blob.Release()
	}
	i.blob = blob
}

// close gives the blob's pages back, and keeps nothing from now on.
func (i *identity) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.blob != nil {
		i.blob.Release()
	}
	i.blob, i.closed = nil, true
}

// give sends the blob to a child, if there is one.
func (i *identity) give(ctx context.Context, c *child) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.blob == nil {
		return nil
	}
	return c.send(ctx, &Frame{Op: OpAdopt, Parts: i.blob.Slices(0, i.blob.Size())})
}

// handOver takes what the child knows of its logins to the spare, and keeps it for the
// children after that.
func (p *Pool) handOver(ctx context.Context, c *child) {
	a, err := c.ask(ctx, Frame{Op: OpIdentity, Timeout: p.cfg.Timeout})
	if err != nil || a.value == nil {
		return
	}
	p.identity.keep(a.value)
	p.mu.Lock()
	spare := p.spare
	p.mu.Unlock()
	if spare != nil && spare != c {
		p.identity.give(ctx, spare)
	}
}
