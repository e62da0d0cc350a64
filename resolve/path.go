// Package resolve finds a connection: it asks the secrets backends of the search
// path in order, with the rules of AIP-33, and tells absent from denied,
// unreachable and invalid. It runs in the resolver child only.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/resolve/backend"
)

// Entry is one backend of a [Path] under the name that logs and audit lines show.
type Entry struct {
	Name    string
	Backend backend.Backend

	breaker *breaker // nil: a backend that cannot be out of reach
}

// Path is a search path: backends that are asked in order. It is safe for
// concurrent use.
type Path struct {
	entries  []Entry
	next     bool     // on_error = "next"
	unsealer Unsealer // nil: whatever is sealed is KeyRejected
}

// NewPath returns the path over entries. With onError "stop" (or empty) the first
// answer other than absent ends the search; with "next" only a connection does, as
// in Airflow. If no backend has a connection, the first answer that was not absent
// is the error.
func NewPath(entries []Entry, onError string) (*Path, error) {
	p := &Path{entries: slices.Clone(entries)}
	switch onError {
	case "", "stop":
	case "next":
		p.next = true
	default:
		return nil, fmt.Errorf("on_error %q is neither \"stop\" nor \"next\"", onError)
	}
	return p, nil
}

// Connection is [Path.Search] for those who need not know how the connection is kept.
func (p *Path) Connection(ctx context.Context, id string) (
	c *conn.Connection, source string, err error) {
	found, err := p.Search(ctx, id)
	return found.Connection, found.Source, err
}

// Found is a connection, and how it is kept.
type Found struct {
	Connection *conn.Connection
	Source     string // the name of the backend; also of the one whose answer is the error
	Seal       Seal   // what sealed it, and opened it again
}

// Search finds the connection id and names the backend that holds it. The error is a
// *conn.Error, of kind Absent only if every backend answered so. It returns when ctx ends,
// even if a backend does not.
func (p *Path) Search(ctx context.Context, id string) (Found, error) {
	var first error
	source := ""
	for _, e := range p.entries {
		c, sealed, err := p.ask(ctx, e, id)
		switch {
		case err == nil:
			return Found{c, e.Name, p.seal(sealed)}, nil
		case conn.KindOf(err) == conn.Absent:
		case !p.next:
			return Found{Source: e.Name}, err
		case first == nil:
			first, source = err, e.Name
		}
	}
	if first != nil {
		return Found{Source: source}, first
	}
	return Found{}, conn.Errorf(conn.Absent, "", "no backend of the search path has it")
}

// Answer is what one backend said about an id. It never holds the value.
type Answer struct {
	Name    string    `json:"name"`
	Found   bool      `json:"found"`
	Decides bool      `json:"decides"` // the search ends with this answer
	Kind    conn.Kind `json:"kind"`    // of the failure; meaningless where Found
	// By is who failed, where it is not the backend: the KMS of a sealed connection.
	By       string        `json:"by,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Hint     string        `json:"hint,omitempty"`
	Duration time.Duration `json:"duration"` // in nanoseconds
	// Seal is by what the connection is sealed, as its form says: where it does not open, nobody
	// knows whether that is true.
	Seal Seal `json:"seal"`
}

// Explain asks every backend, also those behind the answer that decides, so that
// it shows what is hidden.
func (p *Path) Explain(ctx context.Context, id string) []Answer {
	answers := make([]Answer, 0, len(p.entries))
	decided, fallback := false, -1
	for i, e := range p.entries {
		start := time.Now()
		_, sealed, err := p.ask(ctx, e, id)
		a := Answer{Name: e.Name, Found: err == nil, Duration: time.Since(start)}
		var ce *conn.Error
		if errors.As(err, &ce) {
			a.Kind, a.Reason, a.Hint = ce.Kind, ce.Reason, ce.Hint
			if ce.Source != e.Name {
				a.By = ce.Source
			}
		}
		a.Seal = p.seal(sealed)
		absent := !a.Found && a.Kind == conn.Absent
		if !decided && (a.Found || !absent && !p.next) {
			a.Decides, decided = true, true
		}
		if !a.Found && !absent && fallback < 0 {
			fallback = i
		}
		answers = append(answers, a)
	}
	if !decided && fallback >= 0 {
		answers[fallback].Decides = true
	}
	return answers
}

// Listing is what the backends together say they hold.
type Listing struct {
	IDs []string // sorted, each one once; the empty id, which has no file, is left out
	// Complete says that an id that is not in IDs is absent: every backend listed
	// all that it answers to.
	Complete bool
	Failures []Failure // in the order of the path
	Calls    int       // of paged or metered APIs that it took
}

// Failure is why one backend could not list.
type Failure struct {
	Name string
	Err  error // a *conn.Error
}

// List asks all backends at once for their ids. One that is down or cannot list
// does not fail the others; the error is that ctx was over before it began.
func (p *Path) List(ctx context.Context) (Listing, error) {
	if err := ctx.Err(); err != nil {
		return Listing{}, backend.ContextError("", err)
	}
	ids := make([][]string, len(p.entries))
	errs := make([]error, len(p.entries))
	var calls atomic.Int64
	counted := backend.WithCalls(ctx, &calls)
	var wg sync.WaitGroup
	for i, e := range p.entries {
		wg.Go(func() { ids[i], errs[i] = e.list(counted) })
	}
	wg.Wait()

	l := Listing{Complete: true, Calls: int(calls.Load())}
	for i, e := range p.entries {
		if errs[i] != nil {
			l.Complete = false
			l.Failures = append(l.Failures, Failure{e.Name, errs[i]})
			continue
		}
		l.IDs = append(l.IDs, ids[i]...)
	}
	slices.Sort(l.IDs)
	l.IDs = slices.Compact(l.IDs)
	if len(l.IDs) > 0 && l.IDs[0] == "" {
		l.IDs = l.IDs[1:]
	}
	return l, nil
}

// Warm lets every backend that can do so connect and log in; no connection is
// queried. The errors of several backends are joined.
func (p *Path) Warm(ctx context.Context) error {
	var errs []error
	for _, e := range p.entries {
		w, ok := e.Backend.(backend.Warmer)
		if !ok {
			continue
		}
		_, err := within(ctx, e.Name, func() (struct{}, error) { return struct{}{}, w.Warm(ctx) })
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ask returns e's connection if it is one that Airflow would take: its look-up
// evaluates get_uri, and what fails there is not a connection. A sealed one is opened
// first; sealed is what it was before, even where it does not open.
func (p *Path) ask(ctx context.Context, e Entry, id string) (
	c, sealed *conn.Connection, err error) {
	if c, err = e.connection(ctx, id); err != nil {
		return nil, nil, err
	}
	if c.Sealed() {
		sealed = c
		if c, err = within(ctx, e.Name,
			func() (*conn.Connection, error) { return p.unseal(ctx, id, sealed) }); err != nil {
			return nil, sealed, err
		}
	}
	if err := c.Validate(); err != nil {
		return nil, sealed, backend.Invalid(e.Name, err)
	}
	return c, sealed, nil
}

// connection returns what the backend holds, unless its breaker is open.
func (e Entry) connection(ctx context.Context, id string) (*conn.Connection, error) {
	ask := func() (*conn.Connection, error) { return e.Backend.Connection(ctx, id) }
	if e.breaker == nil {
		return within(ctx, e.Name, ask)
	}
	caller := network.Caller(ctx)
	if err := e.breaker.allow(caller, id); err != nil {
		return nil, err
	}
	ctx, request := network.Follow(ctx)
	c, err := within(ctx, e.Name, ask)
	// That nobody waits any more says nothing of the backend.
	if !errors.Is(ctx.Err(), context.Canceled) {
		e.breaker.note(caller, id, request, err)
	}
	return c, err
}

func (e Entry) list(ctx context.Context) ([]string, error) {
	l, ok := e.Backend.(backend.Lister)
	if !ok {
		return nil, conn.Errorf(conn.Failed, e.Name, "this backend cannot list its ids")
	}
	return within(ctx, e.Name, func() ([]string, error) { return l.List(ctx) })
}

// within returns f's result, or a Timeout that names the backend once ctx is over:
// a reader is not blocked beyond its deadline even by a backend that ignores ctx.
// Every error comes out as a *conn.Error with a source.
func within[T any](ctx context.Context, name string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, backend.ContextError(name, err)
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, classified(name, r.err)
		}
		return r.v, nil
	case <-ctx.Done():
		return none, backend.ContextError(name, ctx.Err())
	}
}

// classified returns err as a *conn.Error that says who answered. An error that no
// backend classified is not printed: it might hold a value.
func classified(name string, err error) error {
	var ce *conn.Error
	switch {
	case errors.As(err, &ce):
		if ce.Source != "" {
			return err
		}
		named := *ce
		named.Source = name
		return &named
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return backend.ContextError(name, err)
	}
	return &conn.Error{Kind: conn.Failed, Source: name, Reason: "an unexpected failure", Err: err}
}

// Find returns the first backend of the path that is a T.
func Find[T any](p *Path) (found T, ok bool) {
	for _, e := range p.entries {
		if found, ok = e.Backend.(T); ok {
			return found, true
		}
	}
	return found, false
}
