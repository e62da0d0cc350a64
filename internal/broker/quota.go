package broker

import (
	"container/list"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/cache"
)

// Quotas of each uid, so that one can neither starve another nor spend the site's
// request rate.
const (
	// MaxInFlight is how many fetches of one uid are under way at once. More are queued,
	// first come first served, and each waits no longer than a read may take.
	MaxInFlight = 16
	// MaxUnknown is how many ids in a second one uid may ask the backends for that nothing
	// is known of and that do not exist. More are answered EAGAIN until the second is
	// over: under a grant with a pattern a task can invent ids without end, and each would
	// cost a request and a remembered absence. An id that was found lately, or is listed,
	// is never refused in this way.
	MaxUnknown = 64
)

// quota is what one uid has in use. Broker.mu guards it. There is one for each uid that
// has grants.
type quota struct {
	uid      uint32
	inFlight int
	queue    list.List // of *flight
	since    time.Time // when the second began in which guesses are counted
	guesses  int       // fetches of unknown ids that did not find a connection
}

// quota returns the quota of uid. b.mu is held.
func (b *Broker) quota(uid uint32) *quota {
	q := b.quotas[uid]
	if q == nil {
		q = &quota{uid: uid}
		b.quotas[uid] = q
	}
	return q
}

// start starts the fetch of f at the expense of q, or queues it. b.mu is held.
func (b *Broker) start(f *flight, q *quota) {
	f.quota = q
	if q.inFlight == MaxInFlight {
		f.queued = q.queue.PushBack(f)
		return
	}
	if f.guess = !b.known(f.id); f.guess && !q.mayGuess() {
		b.land(f, nil, cache.Origin{}, conn.Errorf(conn.NoSlot, "",
			"this user asks for too many ids that do not exist; try again in a second"))
		return
	}
	q.inFlight++
	// The present state: nothing that a replaced one fetches may enter the cache.
	go b.fetch(b.state.Load(), f)
}

// startNext gives back what the fetch of f had in use, and starts the fetches that are next
// in the queue. b.mu is held.
func (b *Broker) startNext(f *flight, err error) {
	q := f.quota
	q.inFlight--
	if f.guess && !mayBeInvented(err) {
		q.guesses = max(0, q.guesses-1)
	}
	for q.inFlight < MaxInFlight && q.queue.Len() > 0 {
		next := q.queue.Front().Value.(*flight)
		next.unqueue()
		b.start(next, q)
	}
}

// unqueue takes f out of its queue.
func (f *flight) unqueue() {
	f.quota.queue.Remove(f.queued)
	f.queued = nil
}

// mayGuess counts one more fetch of an unknown id, and reports whether it is allowed now.
func (q *quota) mayGuess() bool {
	if now := time.Now(); now.Sub(q.since) >= time.Second {
		q.since, q.guesses = now, 0
	}
	if q.guesses >= MaxUnknown {
		return false
	}
	q.guesses++
	return true
}

// known reports whether id was found lately, or is listed. b.mu is held.
func (b *Broker) known(id string) bool {
	return b.contents.get(id).size >= 0 || b.listing.has(id)
}

// mayBeInvented reports whether a fetch that ended with err may have been for an invented
// id. A fetch that found something was not. A fetch that no backend answered says nothing
// about the id: in an outage a reader's retries must show the outage.
func mayBeInvented(err error) bool {
	if err == nil {
		return false
	}
	switch conn.KindOf(err) {
	case conn.KeyRejected, conn.Invalid, conn.TooLarge, conn.NoSlot, conn.Unreachable, conn.Timeout:
		return false
	}
	return true
}
