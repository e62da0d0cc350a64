package resolver

import (
	"context"
	"sync"

	"github.com/connfs/connfs/internal/cache"
)

// identity is what one generation of children hands to the next: connfs's own logins, as an
// opaque blob in locked memory. Children live only for seconds, and without it each of them
// would log in to the cloud again.
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

// close drops the blob. Nothing is kept from now on.
func (i *identity) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.blob != nil {
		i.blob.Release()
	}
	i.blob, i.closed = nil, true
}

// give sends the blob to a child, if there is a blob.
func (i *identity) give(ctx context.Context, c *child) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.blob == nil {
		return nil
	}
	return c.send(ctx, &Frame{Op: OpAdopt, Parts: i.blob.Slices(0, i.blob.Size())})
}

// handOver asks the child for its logins, gives them to the spare, and keeps them for the
// children after it.
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
		// A spare that does not get them logs in itself.
		_ = p.identity.give(ctx, spare)
	}
}
