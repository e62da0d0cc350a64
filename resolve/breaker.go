package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
)

// How a breaker behaves.
const (
	// breakAfter is how many failures in a row open it.
	breakAfter = 3
	// probeEvery is how often an open breaker lets one request through. It bounds how
	// long after a server's return readers are still refused.
	probeEvery = 500 * time.Millisecond
	// maxFailed is how many ids it remembers that failed.
	maxFailed = 64
	// maxCallers is for how many callers it counts.
	maxCallers = 1024
)

// breaker turns the outage of one backend into fast errors: without it every reader
// waits for the deadline, and every reader's retry is one more request to a service
// that is down.
//
// An outage is that nobody can connect or log in, or that several ids of several callers
// fail. What fails for one caller alone may be due to what it asks for (a huge row), and is
// charged to that caller: the others' requests go through.
type breaker struct {
	mu      sync.Mutex
	all     circuit
	callers map[uint32]*circuit // of those whose last request failed
}

// circuit counts failures in a row. Once it is open one request in probeEvery is let through,
// and the first answer of whatever kind closes it. A probe that hangs keeps no other from
// being sent. It is for another id than those that failed, where such a one is asked for: their
// failure may be their own.
type circuit struct {
	Failures    int             // in a row
	Unconnected int             // in a row: got no connection or no login
	IDs         map[string]bool // that failed
	Callers     map[uint32]bool // whose requests failed
	Next        time.Time       // when an open circuit lets a request through
	Last        conn.Error      // without its cause
	other       time.Time       // when an id was last asked for that is not in IDs
}

// outage reports whether the circuit of all callers is open.
func (c *circuit) outage() bool {
	return c.Unconnected >= breakAfter ||
		c.Failures >= breakAfter && len(c.IDs) > 1 && len(c.Callers) > 1
}

// open reports whether the circuit of one caller is open.
func (c *circuit) open() bool { return c.Failures >= breakAfter }

// due reports whether a request for id may try an open circuit now. An id that failed leaves
// the trial to another one that was asked for lately.
func (c *circuit) due(id string, now time.Time) bool {
	failed := c.IDs[id]
	if !failed {
		c.other = now
	}
	return !now.Before(c.Next) && (!failed || now.Sub(c.other) > 2*probeEvery)
}

// fail counts a failure.
func (c *circuit) fail(caller uint32, id string, failure *conn.Error, unconnected bool) {
	c.Failures++
	c.Unconnected++
	if !unconnected {
		c.Unconnected = 0
	}
	if c.IDs == nil {
		c.IDs, c.Callers = make(map[string]bool), make(map[uint32]bool)
	}
	if len(c.IDs) < maxFailed {
		c.IDs[id] = true
	}
	if len(c.Callers) < maxCallers {
		c.Callers[caller] = true
	}
	c.Last = conn.Error{Kind: failure.Kind, Source: failure.Source, Reason: failure.Reason,
		Hint: failure.Hint}
}

// refusal is the answer where the backend is not asked; whom says for whom.
func (c *circuit) refusal(whom string) *conn.Error {
	return &conn.Error{
		Kind: c.Last.Kind, Source: c.Last.Source,
		Reason: fmt.Sprintf("not asked now%s, after %d failures in a row; the last one: %s", whom,
			c.Failures, c.Last.Reason),
		Hint: c.Last.Hint,
	}
}

// allow reports whether the backend may be asked now; its error says why not.
func (b *breaker) allow(caller uint32, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	own := b.callers[caller]
	everybody, alone := b.all.outage(), own != nil && own.open()
	if everybody && !b.all.due(id, now) {
		return b.all.refusal("")
	}
	if alone && !own.due(id, now) {
		refusal := own.refusal(" for this user")
		refusal.Charged = true
		return refusal
	}
	if everybody {
		b.all.Next = now.Add(probeEvery)
	}
	if alone {
		own.Next = now.Add(probeEvery)
	}
	return nil
}

// note counts the outcome of a request.
func (b *breaker) note(caller uint32, id string, r *network.Request, err error) {
	var failure *conn.Error
	failed := errors.As(err, &failure) &&
		(failure.Kind == conn.Unreachable || failure.Kind == conn.Timeout)
	if failed && r.Waits() {
		return // the backend was not asked
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !failed {
		b.all = circuit{}
		delete(b.callers, caller)
		return
	}
	unconnected := r.Unconnected(err)
	count := func(c *circuit, open func() bool) {
		was := open()
		c.fail(caller, id, failure, unconnected)
		if !was && open() {
			c.Next = time.Now().Add(probeEvery)
		}
	}
	own := b.callers[caller]
	if own == nil {
		if b.callers == nil || len(b.callers) == maxCallers {
			b.callers = make(map[uint32]*circuit)
		}
		own = &circuit{}
		b.callers[caller] = own
	}
	count(&b.all, b.all.outage)
	count(own, own.open)
}

// breakerState is a breaker that is handed to the next child: an outage is not found
// out anew by each of them.
type breakerState struct {
	All     circuit
	Callers map[uint32]*circuit
}

// state returns what a successor should know; nil where there is no failure.
func (b *breaker) state() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all.Failures == 0 && len(b.callers) == 0 {
		return nil
	}
	text, _ := json.Marshal(breakerState{b.all, b.callers})
	return text
}

// adopt takes a predecessor's state, where this breaker has not seen for itself.
func (b *breaker) adopt(text []byte) {
	var s breakerState
	if json.Unmarshal(text, &s) != nil {
		return
	}
	// Whatever the predecessor's clock said, nobody is refused for longer than this.
	latest := time.Now().Add(probeEvery)
	take := func(c *circuit) *circuit {
		if c.Next.After(latest) {
			c.Next = latest
		}
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all.Failures == 0 {
		b.all = *take(&s.All)
	}
	if b.callers == nil {
		b.callers = make(map[uint32]*circuit)
	}
	for caller, c := range s.Callers {
		if b.callers[caller] == nil && c != nil {
			b.callers[caller] = take(c)
		}
	}
}
