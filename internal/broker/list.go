package broker

import (
	"context"
	"errors"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/boottime"
)

// Between two listings of the backends there is time in proportion to what one costs, so that
// a user who lists in a loop does not spend the request rate of the site: the fields of
// [Listing] say what it costs. All users share a listing, and its rate.
const (
	// listEvery is the shortest time, and how long a listing tells what does not exist.
	listEvery = 5 * time.Second
	// listPerCall is for each call of a paged or metered API.
	listPerCall = 3 * time.Second
	// listPerTime is how many times as long as a listing takes.
	listPerTime = 20
	// listAtMost is the longest time.
	listAtMost = 10 * time.Minute
	// listRetry is the shortest time after a listing in which a backend did not answer. It
	// doubles up to maxListRetry while none does.
	listRetry    = time.Second
	maxListRetry = 30 * time.Second
)

// Listing is what the backends hold.
type Listing struct {
	IDs      []string // sorted
	Answered bool     // every backend said what it holds
	Complete bool     // an id that is not in IDs is absent
	Calls    int      // of paged or metered APIs that it took
}

// listing is what the backends hold, as they last answered.
type listing struct {
	ids      []string // sorted; shared with readers, never changed
	complete bool     // other ids are absent
	until    time.Time
	due      time.Time     // when they may be asked again
	asked    bool          // they are being asked
	retry    time.Duration // the time after the last listing if a backend did not answer
}

// lacks reports whether the listing is sure that id does not exist.
func (l *listing) lacks(id string) bool {
	return l.complete && boottime.Now().Before(l.until) && !l.has(id)
}

// has reports whether id is in the listing, which may be old.
func (l *listing) has(id string) bool {
	i := sort.SearchStrings(l.ids, id)
	return i < len(l.ids) && l.ids[i] == id
}

// List returns every id that is known, sorted. The caller must not change the slice, and
// must show of it only what MayRead allows. If the last answer is too old it asks the
// backends; if they do not answer it returns what is known. For a caller who may read
// nothing it returns nothing and asks nobody.
func (b *Broker) List(cancel <-chan struct{}, c conn.Caller) ([]string, error) {
	for {
		ids, pending := b.listed(c, true)
		if pending == nil {
			return ids, nil
		}
		select {
		case <-pending:
			// Look again: after a Replace another listing counts.
		case <-cancel:
			return nil, &conn.Error{Kind: conn.Interrupted, Reason: "the reader was interrupted"}
		}
	}
}

// Listed returns what List returns, as far as it is known now. If the last answer is too old it
// has the backends asked, and does not wait for them.
func (b *Broker) Listed(c conn.Caller) []string {
	ids, _ := b.listed(c, false)
	return ids
}

// listed returns the ids that are known, and nil for a caller who may read nothing. If the
// listing is old, and the caller waits for the next one, it also returns a channel that receives
// when that has arrived.
func (b *Broker) listed(
	c conn.Caller, waits bool,
) (ids []string, pending <-chan singleflight.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.state.Load()
	if !st.Policy.ReadsAnything(c.UID) {
		return nil, nil
	}
	if boottime.Now().Before(b.listing.due) || b.listing.asked && !waits {
		return b.listing.ids, nil
	}
	b.listing.asked = true
	group := b.listings
	return b.listing.ids, group.DoChan("", func() (any, error) {
		b.list(st, group)
		return nil, nil
	})
}

// list asks the backends what they hold, and keeps the answer unless the configuration
// was replaced meanwhile, which another group shows.
func (b *Broker) list(st *State, group *singleflight.Group) {
	ctx, cancel := context.WithTimeout(context.Background(), st.Timeout)
	defer cancel()
	start := boottime.Now()
	l, err := st.Fetcher.List(ctx)
	if err != nil && !errors.Is(err, ErrReplaced) {
		b.log.failure(conn.Caller{}, "", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listings != group {
		return
	}
	next := b.listing.next(l, start, boottime.Now())
	if b.listing.complete {
		b.contents.listed(b.listing.ids, next.ids)
	}
	b.listing = next
}

// next returns the listing after l: the answer now, to what was asked at start.
func (l *listing) next(answer Listing, start, now time.Time) listing {
	calls := time.Duration(answer.Calls) * listPerCall
	n := listing{ids: answer.IDs, complete: answer.Complete, until: now.Add(listEvery)}
	wait := max(listEvery, calls, now.Sub(start)*listPerTime)
	if !answer.Answered {
		// What a backend listed before it failed is still known. How long it took says how long
		// it did not answer.
		n.ids = union(answer.IDs, l.ids)
		n.retry = min(max(listRetry, 2*l.retry), maxListRetry)
		wait = max(n.retry, calls)
	}
	n.due = now.Add(min(wait, listAtMost))
	if slices.Equal(n.ids, l.ids) {
		n.ids = l.ids // what was made of this slice stays good
	}
	return n
}

// union merges two sorted lists.
func union(a, b []string) []string {
	out := make([]string, 0, max(len(a), len(b)))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return out
}
