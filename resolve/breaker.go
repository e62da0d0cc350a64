package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

// How a breaker behaves.
const (
	// breakAfter is how many failures in a row open it.
	breakAfter = 3
	// probeEvery is how often an open breaker lets one request through. It bounds how
	// long after a server's return readers are still refused.
	probeEvery = 500 * time.Millisecond
)

// breaker turns the outage of one backend into fast errors: without it every reader
// waits for the deadline, and every reader's retry is one more request to a service
// that is down. It counts failures in a row; once it is open, one request in
// probeEvery is let through, and the first answer of whatever kind closes it. A probe
// that hangs keeps no other from being sent.
type breaker struct {
	mu       sync.Mutex
	failures int
	next     time.Time // when an open breaker lets a request through
	last     conn.Error
}

// allow reports whether the backend may be asked now; its error says why not.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakAfter {
		return nil
	}
	if now := time.Now(); !now.Before(b.next) {
		b.next = now.Add(probeEvery)
		return nil
	}
	return &conn.Error{
		Kind: b.last.Kind, Source: b.last.Source,
		Reason: fmt.Sprintf("not asked now, after %d failures in a row; the last one: %s",
			b.failures, b.last.Reason),
		Hint: b.last.Hint,
	}
}

// note counts the outcome of a request.
func (b *breaker) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var failure *conn.Error
	if !errors.As(err, &failure) || failure.Kind != conn.Unreachable &&
		failure.Kind != conn.Timeout {
		b.failures = 0
		return
	}
	b.failures++
	b.last = conn.Error{Kind: failure.Kind, Source: failure.Source, Reason: failure.Reason,
		Hint: failure.Hint}
	if b.failures == breakAfter {
		b.next = time.Now().Add(probeEvery)
	}
}

// breakerState is a breaker that is handed to the next child: an outage is not found
// out anew by each of them.
type breakerState struct {
	Failures int
	Next     time.Time
	Kind     conn.Kind
	Source   string
	Reason   string
	Hint     string
}

// state returns what a successor should know; nil where there is no failure.
func (b *breaker) state() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return nil
	}
	text, _ := json.Marshal(breakerState{b.failures, b.next, b.last.Kind, b.last.Source,
		b.last.Reason, b.last.Hint})
	return text
}

// adopt takes a predecessor's state, unless this breaker has seen for itself.
func (b *breaker) adopt(text []byte) {
	var s breakerState
	if json.Unmarshal(text, &s) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures > 0 {
		return
	}
	b.failures, b.next = s.Failures, s.Next
	b.last = conn.Error{Kind: s.Kind, Source: s.Source, Reason: s.Reason, Hint: s.Hint}
	// Whatever the predecessor's clock said, nobody is refused for longer than this.
	if latest := time.Now().Add(probeEvery); b.next.After(latest) {
		b.next = latest
	}
}
