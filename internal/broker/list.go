package broker

import (
	"context"
	"sort"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/connfs/connfs/conn"
)

// listFresh is how long a listing answers without asking the backends again.
const listFresh = 5 * time.Second

// listing is what the backends hold, as they last answered.
type listing struct {
	ids      []string // sorted; shared with readers, never changed
	complete bool     // every backend answered
	until    time.Time
}

// lacks reports whether the listing is sure that id does not exist.
func (l *listing) lacks(id string) bool {
	return l.complete && time.Now().Before(l.until) && !l.has(id)
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
		ids, pending := b.listed(c)
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

// listed returns the ids if the listing is fresh, and nil for a caller who may read
// nothing. Otherwise it returns a channel that receives when the listing has arrived.
func (b *Broker) listed(c conn.Caller) (ids []string, pending <-chan singleflight.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.state.Load()
	if !st.Policy.ReadsAnything(c.UID) {
		return nil, nil
	}
	if time.Now().Before(b.listing.until) {
		return b.listing.ids, nil
	}
	group := b.listings
	return nil, group.DoChan("", func() (any, error) {
		b.list(st, group)
		return nil, nil
	})
}

// list asks the backends what they hold, and keeps the answer unless the configuration
// was replaced meanwhile, which another group shows.
func (b *Broker) list(st *State, group *singleflight.Group) {
	ctx, cancel := context.WithTimeout(context.Background(), st.Timeout)
	defer cancel()
	ids, complete, err := st.Fetcher.List(ctx)
	if err != nil {
		b.log.failure(conn.Caller{}, "", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listings != group {
		return
	}
	if !complete {
		// What a backend listed before it failed is still known.
		ids = union(ids, b.listing.ids)
	}
	if b.listing.complete {
		b.contents.listed(b.listing.ids, ids)
	}
	b.listing = listing{ids: ids, complete: complete, until: time.Now().Add(listFresh)}
	if !complete {
		b.listing.until = time.Now().Add(time.Second)
	}
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
