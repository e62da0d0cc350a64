package broker

import (
	"container/list"
	"time"

	"github.com/connfs/connfs/conn"
)

// Quotas of each uid, so that one can neither starve another nor spend the site's
// request rate.
const (
	// MaxInFlight is how many fetches of one uid are under way at once. More wait
	// for their turn, first come first served, each no longer than a read may take.
	MaxInFlight = 16
	// MaxUnknown is how many ids a second, of which nothing is known, one uid may
	// ask the backends for in vain. More are answered EAGAIN until the second is
	// over: under a grant with a pattern a task can invent ids without end, each of
	// which would cost a request and a remembered absence. An id that was found
	// lately or is listed is never refused so.
	MaxUnknown = 64
)

// quota is what one uid has in use. Broker.mu guards it. There are as many as uids
// with grants.
type quota struct {
	uid      uint32
	inFlight int
	queue    list.List // of *flight
	since    time.Time // when the second of unknown began
	unknown  int
}

// quota returns that of uid. b.mu is held.
func (b *Broker) quota(uid uint32) *quota {
	q := b.quotas[uid]
	if q == nil {
		q = &quota{uid: uid}
		b.quotas[uid] = q
	}
	return q
}

// depart begins the fetch of f at the expense of q, or queues it. b.mu is held.
func (b *Broker) depart(f *flight, q *quota) {
	f.quota = q
	if q.inFlight == MaxInFlight {
		f.turn = q.queue.PushBack(f)
		return
	}
	if f.unknown = !b.known(f.id); f.unknown && !q.guess() {
		b.land(f, nil, "", conn.Errorf(conn.NoSlot, "",
			"this user asks for too many ids that do not exist; try again in a second"))
		return
	}
	q.inFlight++
	// With the state of now: nothing of a replaced one may enter the cache.
	go b.fetch(b.state.Load(), f)
}

// arrive gives back what the fetch of f had in use, and begins those whose turn it
// is. b.mu is held.
func (b *Broker) arrive(f *flight, err error) {
	q := f.quota
	q.inFlight--
	if f.unknown && !inVain(err) {
		q.unknown = max(0, q.unknown-1)
	}
	for q.inFlight < MaxInFlight && q.queue.Len() > 0 {
		next := q.queue.Front().Value.(*flight)
		next.unqueue()
		b.depart(next, q)
	}
}

// unqueue takes f out of its queue.
func (f *flight) unqueue() {
	f.quota.queue.Remove(f.turn)
	f.turn = nil
}

// guess reports whether one more unknown id may be asked for now.
func (q *quota) guess() bool {
	if now := time.Now(); now.Sub(q.since) >= time.Second {
		q.since, q.unknown = now, 0
	}
	if q.unknown >= MaxUnknown {
		return false
	}
	q.unknown++
	return true
}

// known reports whether id was found lately, or is listed. b.mu is held.
func (b *Broker) known(id string) bool {
	if _, ok := b.sizes[id]; ok {
		return true
	}
	return b.listing.has(id)
}

// inVain reports whether a fetch that ended with err may have been for an invented id.
// One that found something was not, and one that found nobody to ask says nothing of
// the id: in an outage a reader's retries must show the outage.
func inVain(err error) bool {
	if err == nil {
		return false
	}
	switch conn.KindOf(err) {
	case conn.KeyRejected, conn.Invalid, conn.TooLarge, conn.NoSlot, conn.Unreachable, conn.Timeout:
		return false
	}
	return true
}
