package broker

import (
	"context"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/cache"
)

// flight is one fetch that all readers of an id share. It has its own deadline and
// goes on when a reader is interrupted, so that a retry finds its result.
type flight struct {
	done    chan struct{}
	waiting int // readers; guarded by Broker.mu until done is closed
	value   *cache.Value
	err     error
}

// value returns the value of id, pinned for the caller, from the cache or by the
// shared fetch.
func (b *Broker) value(cancel <-chan struct{}, id string) (*cache.Value, bool, error) {
	if v := b.cache.Get(id); v != nil {
		return v, true, nil
	}
	b.mu.Lock()
	// Between the look into the cache and here a fetch may have ended.
	if v := b.cache.Get(id); v != nil {
		b.mu.Unlock()
		return v, true, nil
	}
	if a, ok := b.absent[id]; ok {
		if time.Now().Before(a.until) {
			b.mu.Unlock()
			return nil, true, a.err
		}
		delete(b.absent, id)
	}
	f := b.flights[id]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		b.flights[id] = f
		// With the state of now: nothing of a replaced one may enter the cache.
		go b.fetch(b.state.Load(), id, f)
	}
	f.waiting++
	b.mu.Unlock()

	select {
	case <-f.done:
		return f.value, false, f.err
	case <-cancel:
	}
	b.mu.Lock()
	select {
	case <-f.done:
		// It ended at the same moment, and has pinned the value for us.
		if f.value != nil {
			f.value.Release()
		}
	default:
		f.waiting--
	}
	b.mu.Unlock()
	return nil, false, &conn.Error{Kind: conn.Interrupted, Reason: "the reader was interrupted"}
}

// fetch resolves id and hands the result to everybody who waits.
func (b *Broker) fetch(st *State, id string, f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), st.Timeout)
	defer cancel()
	v, source, err := st.Fetcher.Fetch(ctx, id)

	b.mu.Lock()
	defer b.mu.Unlock()
	// After a Replace the flight is no longer in the table, and what it brought
	// serves those who wait for it and nobody else.
	valid := b.flights[id] == f
	if valid {
		delete(b.flights, id)
	}
	f.value, f.err = v, err
	switch {
	case err == nil && valid:
		b.cache.Commit(id, v, source, st.TTL)
		b.remember(id, v.Size())
	case err == nil:
		v.SetSource(source)
	case valid && conn.KindOf(err) == conn.Absent:
		delete(b.sizes, id)
		if len(b.absent) >= maxAbsent {
			clear(b.absent)
		}
		if st.NegativeTTL > 0 {
			b.absent[id] = absence{err, time.Now().Add(st.NegativeTTL)}
		}
	}
	if v != nil {
		v.Pin(f.waiting)
		v.Release()
	}
	close(f.done)
}

// remember keeps the size of a content, which outlives it. b.mu is held.
func (b *Broker) remember(id string, size int) {
	if len(b.sizes) >= maxSizes {
		clear(b.sizes)
	}
	b.sizes[id] = size
}
