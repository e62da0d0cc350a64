// Package exec finds connections with a program of the site's own, which speaks the
// protocol of docs/exec-plugin.md.
package exec

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/internal/retry"
	"github.com/connfs/connfs/resolve/backend"
)

// source is the source that errors of [Store] name.
const source = "exec"

// restartPause is how long a program that failed is not started again.
var restartPause = retry.Backoff{First: 100 * time.Millisecond, Longest: 800 * time.Millisecond}

// Store is a backend that is a program of the site's own: it speaks JSON lines, as
// docs/exec-plugin.md says. It is started when it is first needed, lives as long as the
// resolver child, and is started again, at growing intervals, when it ends, falls
// silent, or breaks the protocol.
type Store struct {
	command     []string
	environment []string

	mu       sync.Mutex
	program  *program // nil: none runs
	closed   bool
	failures int // of programs in a row that answered nothing
	next     time.Time
	last     error // why the last program ended
}

// Open is the [backend.Opener] of a [Store]. Its arguments are those of docs/exec-plugin.md.
func Open(_ *backend.Secrets, kw *arguments.Object) (backend.Backend, error) {
	e := &Store{}
	list, _ := kw.Value("command").([]any)
	for _, item := range list {
		text, ok := item.(string)
		if !ok || strings.Contains(text, "\x00") {
			list = nil
			break
		}
		e.command = append(e.command, text)
	}
	if len(list) == 0 || !filepath.IsAbs(e.command[0]) {
		kw.Fail("command",
			"expected a list of texts, of which the first is the absolute path of a program")
	}
	variables := make(map[string]string)
	for name, value := range kw.Map("environment") {
		text, ok := value.(string)
		if !ok || name == "" || strings.ContainsAny(name, "=\x00") ||
			strings.Contains(text, "\x00") {
			kw.Fail("environment", "expected an object of texts, by the names of variables")
			break
		}
		variables[name] = text
	}
	e.environment = Environment(variables)
	return e, nil
}

// Environment returns the environment of a program: the given variables, PATH and
// LANG, and nothing of connfs's own.
func Environment(variables map[string]string) []string {
	environment := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8"}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		environment = append(environment, name+"="+variables[name])
	}
	return environment
}

// Connection implements [backend.Backend].
func (e *Store) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError(source, err)
	}
	if !sendable(id) {
		return nil, conn.Errorf(conn.Absent, source,
			"an id like this, which could be taken for a path, is not sent to the program")
	}
	a, program, err := e.ask(ctx, request{Op: "get", ID: &id})
	if err != nil {
		return nil, err
	}
	c, err := a.connection(id)
	if errors.Is(err, errWrongID) {
		program.end(err)
	}
	return c, err
}

// sendable reports whether an id can stand in a path without leading out of it, and
// in a line of JSON.
func sendable(id string) bool {
	return backend.CheckPathID(id) == nil && !strings.ContainsAny(id, "\u0085\u2028\u2029")
}

// List implements [backend.Lister].
func (e *Store) List(ctx context.Context) ([]string, error) {
	a, err := e.askIfAble(ctx, "list")
	switch {
	case err != nil:
		return nil, err
	case a == nil:
		return nil, conn.Errorf(conn.Failed, source, "the program cannot list its ids")
	}
	backend.CountCall(ctx)
	return a.ids()
}

// Warm implements [backend.Warmer].
func (e *Store) Warm(ctx context.Context) error {
	a, err := e.askIfAble(ctx, "warm")
	if a == nil || err != nil {
		return err
	}
	return failure(a.members, "ok")
}

// Check implements [backend.Checker].
func (e *Store) Check(ctx context.Context) []conn.Check {
	a, err := e.askIfAble(ctx, "check")
	checks := []conn.Check{{Call: "start", Err: err}}
	if a == nil {
		return checks
	}
	more, err := a.checks()
	if err != nil {
		return append(checks, conn.Check{Call: "check", Err: err})
	}
	return append(checks, more...)
}

// askIfAble asks what a program need not be able to answer; nil where it is not.
func (e *Store) askIfAble(ctx context.Context, op string) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError(source, err)
	}
	p, err := e.running()
	if err != nil {
		return nil, err
	}
	able, err := p.can(ctx, op)
	if !able || err != nil {
		return nil, err
	}
	return p.ask(ctx, request{Op: op})
}

func (e *Store) ask(ctx context.Context, r request) (*answer, *program, error) {
	done := network.Connecting(ctx)
	p, err := e.running()
	if done(err); err != nil {
		return nil, nil, err
	}
	a, err := p.ask(ctx, r)
	return a, p, err
}

// running returns the program, started if none runs and it is time.
func (e *Store) running() (*program, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return nil, conn.Errorf(conn.Unreachable, source, "the backend is closed")
	case e.program != nil:
		return e.program, nil
	case time.Now().Before(e.next):
		return nil, e.last
	}
	p, err := start(e.command, e.environment)
	if err != nil {
		e.failed(err)
		return nil, err
	}
	e.program = p
	go e.watch(p)
	return p, nil
}

// watch waits for the end of a program.
func (e *Store) watch(p *program) {
	<-p.gone
	e.mu.Lock()
	defer e.mu.Unlock()
	e.program = nil
	if p.answered() {
		e.failures = 0
	}
	e.failed(p.reason())
}

// failed counts a program that ended. The first one is started again at once.
func (e *Store) failed(err error) {
	if e.failures > 0 {
		e.next = time.Now().Add(restartPause.After(e.failures))
	}
	e.failures++
	e.last = err
}

// Close ends the program, and waits until it is gone.
func (e *Store) Close() error {
	e.mu.Lock()
	e.closed = true
	p := e.program
	e.mu.Unlock()
	if p != nil {
		p.end(conn.Errorf(conn.Unreachable, source, "the backend is closed"))
		<-p.gone
	}
	return nil
}
