package broker

import (
	"container/list"
	"context"
	"errors"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/cache"
)

// flight is one fetch that all readers of an id share. It has its own deadline and goes on
// when a reader is interrupted, so that a retry finds its result. A flight that is still
// queued is given up when its last reader leaves.
//
// It is more than x/sync's singleflight does: each reader that waits gets a pin on the
// value, and a flight can be queued, moved to another user's quota, or given up.
type flight struct {
	id      string
	done    chan struct{}
	quota   *quota          // the user who pays for it
	queued  *list.Element   // its place in the queue of quota; nil: it is under way
	guess   bool            // nothing was known of the id, and the quota counts that
	appears bool            // there was no such connection when it was last fetched
	waiting int             // how many readers wait; guarded by Broker.mu until done is closed
	readers map[uint32]int  // how many of them are of each user
	payers  map[uint32]bool // the users who were charged for it
	value   *cache.Value
	err     error
}

// maxOutdated is how often a reader is made to wait again because what was fetched for it is
// out of date already.
const maxOutdated = 3

// value returns the value of id from the cache or from the shared fetch, pinned for the
// caller, and whether the answer was already known.
func (b *Broker) value(
	cancel <-chan struct{}, uid uint32, id string,
) (v *cache.Value, cached bool, err error) {
	for try := 1; ; try++ {
		v, cached, err = b.valueOnce(cancel, uid, id)
		cached = cached && try == 1 // whoever has waited is decided upon anew
		if err != nil || cached || try == maxOutdated || !b.outdated(v) {
			return v, cached, err
		}
		v.Release()
	}
}

// outdated reports whether a value, which was just fetched, is older than a value may be: this
// process was stopped while the value lay in the pipe. A machine that is merely busy delays it,
// too, so a second is always allowed.
func (b *Broker) outdated(v *cache.Value) bool {
	return v.Age() > max(b.state.Load().TTL, time.Second)
}

// valueOnce is value, whatever the age of what was fetched.
func (b *Broker) valueOnce(
	cancel <-chan struct{}, uid uint32, id string,
) (*cache.Value, bool, error) {
	if v := b.cache.Get(id); v != nil {
		return v, true, nil
	}
	b.mu.Lock()
	// A fetch may have ended since the look into the cache.
	if v := b.cache.Get(id); v != nil {
		b.mu.Unlock()
		return v, true, nil
	}
	a, wasAbsent := b.absent[id]
	if wasAbsent {
		if boottime.Now().Before(a.until) {
			b.mu.Unlock()
			return nil, true, a.err
		}
		delete(b.absent, id)
	}
	f, q := b.flights[id], b.quota(uid)
	switch {
	case f == nil:
		f = &flight{
			id: id, done: make(chan struct{}), appears: wasAbsent,
			readers: make(map[uint32]int), payers: make(map[uint32]bool),
		}
		b.flights[id] = f
		b.start(f, q)
	case f.queued != nil && q.inFlight < MaxInFlight:
		// It is queued behind another user's fetches, which must not delay this reader.
		f.unqueue()
		b.start(f, q)
	}
	var deadline <-chan time.Time
	if f.queued != nil {
		deadline = time.After(b.state.Load().Timeout)
	}
	f.waiting++
	f.readers[uid]++
	b.mu.Unlock()

	select {
	case <-f.done:
		return f.value, false, f.err
	case <-cancel:
		b.leave(f, uid)
		return nil, false, &conn.Error{Kind: conn.Interrupted, Reason: "the reader was interrupted"}
	case <-deadline:
		b.leave(f, uid)
		return nil, false, conn.Errorf(conn.Timeout, "",
			"too many fetches of this user were under way")
	}
}

// leave takes a reader of a user that waits no longer off f.
func (b *Broker) leave(f *flight, uid uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-f.done:
		// The flight ended at the same moment, and has pinned the value for this reader.
		if f.value != nil {
			f.value.Release()
		}
		return
	default:
	}
	f.waiting--
	f.readers[uid]--
	if f.waiting == 0 && f.queued != nil {
		f.unqueue()
		if b.flights[f.id] == f {
			delete(b.flights, f.id)
		}
	}
}

// fetch resolves the id of f and gives the result to everybody who waits.
func (b *Broker) fetch(st *State, f *flight) {
	v, origin, err := b.ask(st, f)

	b.mu.Lock()
	defer b.mu.Unlock()
	if heir := b.heir(f, err); heir != nil {
		b.startNext(f, err)
		b.start(f, heir)
		return
	}
	b.land(f, v, origin, err)
	b.startNext(f, err)
}

// heir returns who pays for another attempt, where nobody was asked because too much failed for
// the user who paid for f, and another user waits for it too. b.mu is held.
func (b *Broker) heir(f *flight, err error) *quota {
	f.payers[f.quota.uid] = true
	var failure *conn.Error
	if !errors.As(err, &failure) || !failure.Charged || b.flights[f.id] != f {
		return nil
	}
	for uid, readers := range f.readers {
		if q := b.quota(uid); readers > 0 && !f.payers[uid] && q.inFlight < MaxInFlight {
			return q
		}
	}
	return nil
}

// ask asks the resolver, within the deadline. If the time ran out while this process was stopped,
// the answer may be there by now, and nobody has had the time that it is promised.
func (b *Broker) ask(st *State, f *flight) (v *cache.Value, o cache.Origin, err error) {
	for stopped := true; stopped; {
		start := boottime.Now()
		ctx, cancel := context.WithTimeout(context.Background(), st.Timeout)
		v, o, err = st.Fetcher.Fetch(ctx, f.quota.uid, f.id)
		for errors.Is(err, ErrReplaced) {
			// Whoever waits is decided upon anew, so the present configuration may answer.
			now := b.state.Load()
			if now == st {
				break
			}
			st = now
			v, o, err = st.Fetcher.Fetch(ctx, f.quota.uid, f.id)
		}
		cancel()
		stopped = conn.KindOf(err) == conn.Timeout && boottime.Since(start) > st.Timeout+stopSlack
	}
	return v, o, err
}

// stopSlack is how much later than its deadline a fetch ends on a machine that is merely busy.
const stopSlack = time.Second

// land keeps the result of a fetch and wakes those who wait for it. b.mu is held.
func (b *Broker) land(f *flight, v *cache.Value, origin cache.Origin, err error) {
	st := b.state.Load()
	// After a Replace the flight is no longer in the table. Its result then serves only
	// those who already wait for it.
	valid := b.flights[f.id] == f
	if valid {
		delete(b.flights, f.id)
	}
	f.value, f.err = v, err
	switch {
	case err == nil && valid:
		v.SetOwner(f.quota.uid)
		b.cache.Commit(f.id, v, origin, st.TTL)
		appears := f.appears || b.listing.complete && !b.listing.has(f.id)
		b.contents.fetched(f.id, v.Size(), v.Version(), appears)
	case err == nil:
		v.SetOrigin(origin)
	case valid && conn.KindOf(err) == conn.Absent:
		b.contents.gone(f.id)
		b.miss(f.id, err, st.NegativeTTL)
	}
	if v != nil {
		v.Pin(f.waiting)
		v.Release()
	}
	close(f.done)
}

// miss remembers for ttl that there is no connection id, and after that that there was none.
// b.mu is held.
func (b *Broker) miss(id string, err error, ttl time.Duration) {
	now := boottime.Now()
	if len(b.absent) >= maxAbsent {
		for id, a := range b.absent {
			if !now.Before(a.until) {
				delete(b.absent, id)
			}
		}
	}
	if len(b.absent) >= maxAbsent {
		clear(b.absent)
	}
	b.absent[id] = absence{err, now.Add(ttl)}
}
