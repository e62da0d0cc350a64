package resolver

import (
	"context"
	"sync"
)

// identity is what one generation of children hands to the next: connfs's own logins,
// as an opaque blob in a locked slot. Children die young, and without it each would
// log in to the cloud anew.
type identity struct {
	mu     sync.Mutex
	slot   Slot // nil: nobody has logged in yet
	size   int
	closed bool
}

// keep replaces the blob, which the identity then owns.
func (i *identity) keep(slot Slot, size int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		slot.Release()
		return
	}
	if i.slot != nil {
		i.slot.Release()
	}
	i.slot, i.size = slot, size
}

// close gives the slot back, and keeps nothing from now on.
func (i *identity) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.slot != nil {
		i.slot.Release()
	}
	i.slot, i.closed = nil, true
}

// give sends the blob to a child, if there is one.
func (i *identity) give(ctx context.Context, c *child) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.slot == nil {
		return nil
	}
	return c.send(ctx, &Frame{Op: OpAdopt, Parts: i.slot.Slices(0, i.size)})
}

// handOver takes what the child knows of its logins to the spare, and keeps it for the
// children after that.
func (p *Pool) handOver(ctx context.Context, c *child) {
	a, err := c.ask(ctx, Frame{Op: OpIdentity, Timeout: p.cfg.Timeout})
	if err != nil || a.slot == nil {
		return
	}
	p.identity.keep(a.slot, int(a.header.Body))
	p.mu.Lock()
	spare := p.spare
	p.mu.Unlock()
	if spare != nil && spare != c {
		p.identity.give(ctx, spare)
	}
}
