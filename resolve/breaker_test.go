package resolve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/resolve/backend"
)

// outage is a backend that answers what it is told, and counts.
type outage struct {
	err   error
	hang  bool
	calls atomic.Int64
}

func (o *outage) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	o.calls.Add(1)
	if o.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &conn.Connection{}, o.err
}

// guarded is a path of that backend behind a breaker.
func guarded(o *outage) *Path {
	return &Path{entries: []Entry{{Name: "aws_ssm", Backend: o, breaker: breakerFor(o)}}}
}

func lookUp(t *testing.T, p *Path) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, _, err := p.Connection(ctx, "x")
	return err
}

func TestAnOutageIsAFastErrorAfterThreeFailures(t *testing.T) {
	down := conn.Errorf(conn.Unreachable, "aws_ssm", "no server listens there")
	for _, c := range []struct {
		name string
		o    *outage
		kind conn.Kind
	}{
		{"unreachable", &outage{err: down}, conn.Unreachable},
		{"black hole", &outage{hang: true}, conn.Timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := guarded(c.o)
				for range breakAfter {
					if err := lookUp(t, p); conn.KindOf(err) != c.kind {
						t.Fatal(err)
					}
				}
				start := time.Now()
				for range 1000 {
					err := lookUp(t, p)
					if conn.KindOf(err) != c.kind ||
						!strings.Contains(err.Error(), "after 3 failures in a row") {
						t.Fatal(err)
					}
				}
				if c.o.calls.Load() != breakAfter || time.Since(start) != 0 {
					t.Errorf("%d calls, %s", c.o.calls.Load(), time.Since(start))
				}
			})
		})
	}
}

func TestAServersReturnIsNoticedByAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outage{err: conn.Errorf(conn.Unreachable, "aws_ssm", "down")}
		p := guarded(o)
		for range breakAfter {
			lookUp(t, p)
		}
		// Readers come every 10 ms for ten seconds: one in half a second is let through.
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			lookUp(t, p)
		}
		if probes := o.calls.Load() - breakAfter; probes < 19 || probes > 20 {
			t.Errorf("%d probes in ten seconds", probes)
		}
		o.err = nil
		start := time.Now()
		for lookUp(t, p) != nil {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took > probeEvery {
			t.Errorf("noticed after %s", took)
		}
		if lookUp(t, p) != nil {
			t.Error("closed, and does not let through")
		}
	})
}

func TestAProbeThatHangsKeepsNoOtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outage{hang: true}
		p := guarded(o)
		for range breakAfter {
			lookUp(t, p)
		}
		time.Sleep(probeEvery)
		go lookUp(t, p) // into the black hole
		synctest.Wait()
		o.hang = false
		time.Sleep(probeEvery)
		if err := lookUp(t, p); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
	})
}

func TestOnlyAnOutageOpensABreaker(t *testing.T) {
	for _, kind := range []conn.Kind{conn.Absent, conn.Denied, conn.KeyRejected, conn.Invalid,
		conn.Failed} {
		o := &outage{err: conn.Errorf(kind, "", "as told")}
		p := guarded(o)
		for range 10 {
			if err := lookUp(t, p); conn.KindOf(err) != kind ||
				strings.Contains(err.Error(), "not asked") {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	// A reader that gives up says nothing of the backend.
	o := &outage{hang: true}
	p := guarded(o)
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p.Connection(ctx, "x")
	}
	if p.entries[0].breaker.all.Failures != 0 {
		t.Error("cancelled look-ups count as failures")
	}
}

func TestAnswersInBetweenKeepABreakerClosed(t *testing.T) {
	o := &outage{}
	p := guarded(o)
	down := conn.Errorf(conn.Unreachable, "aws_ssm", "down")
	for range 10 {
		for _, o.err = range []error{down, down, nil} {
			if err := lookUp(t, p); !errors.Is(err, o.err) {
				t.Fatal(err)
			}
		}
	}
}

func TestAnOpenBreakerIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outage{err: conn.Errorf(conn.Unreachable, "aws_ssm", "down")}
		p := guarded(o)
		for range breakAfter {
			lookUp(t, p)
		}
		next := &outage{}
		heir := guarded(next)
		heir.Adopt(p.Identities())
		if err := lookUp(t, heir); conn.KindOf(err) != conn.Unreachable || next.calls.Load() != 0 {
			t.Errorf("%v, %d calls", err, next.calls.Load())
		}
		time.Sleep(probeEvery)
		if err := lookUp(t, heir); err != nil {
			t.Errorf("after a probe: %v", err)
		}
		if len(heir.Identities()) != 0 {
			t.Error("a closed breaker is handed over")
		}
	})
}

// moody is a backend that answers each id as it is told.
type moody func(ctx context.Context, id string) error

func (m moody) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	return &conn.Connection{}, m(ctx, id)
}

// ask looks an id up for a caller.
func ask(t *testing.T, p *Path, caller uint32, id string) error {
	ctx, cancel := context.WithTimeout(network.ForCaller(t.Context(), caller), 5*time.Second)
	defer cancel()
	_, _, err := p.Connection(ctx, id)
	return err
}

func isRefusal(err error) bool {
	return err != nil && strings.Contains(err.Error(), "not asked now")
}

func TestWhatFailsForOneCallerIsNoOutageForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := moody(func(ctx context.Context, id string) error {
			if !strings.HasPrefix(id, "huge") {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		p := &Path{entries: []Entry{{Name: "metastore", Backend: m, breaker: new(breaker)}}}
		for i := range 20 {
			err := ask(t, p, 1, fmt.Sprint("huge", i%4))
			if conn.KindOf(err) != conn.Timeout || isRefusal(err) != (i >= breakAfter) {
				t.Fatalf("read %d: %v", i, err)
			}
		}
		if err := ask(t, p, 2, "small"); err != nil {
			t.Errorf("another caller: %v", err)
		}
	})
}

func TestOneIDThatFailsForManyIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := moody(func(ctx context.Context, id string) error {
			if id == "broken" {
				return conn.Errorf(conn.Unreachable, "vault", "Vault failed")
			}
			return nil
		})
		p := &Path{entries: []Entry{{Name: "vault", Backend: m, breaker: new(breaker)}}}
		for caller := range uint32(10) {
			if err := ask(t, p, caller, "broken"); err == nil || isRefusal(err) {
				t.Fatal(err)
			}
		}
		if err := ask(t, p, 99, "fine"); err != nil {
			t.Error(err)
		}
	})
}

func TestSeveralIDsOfSeveralCallersAreAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outage{err: conn.Errorf(conn.Unreachable, "vault", "Vault is sealed")}
		p := guarded(o)
		for i := range uint32(breakAfter) {
			if err := ask(t, p, i, fmt.Sprint("id", i)); isRefusal(err) {
				t.Fatal(err)
			}
		}
		if err := ask(t, p, 99, "another"); !isRefusal(err) {
			t.Errorf("a caller who never asked: %v", err)
		}
	})
}

func TestNobodyCanConnectIsAnOutageForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Path{entries: []Entry{{Name: "metastore", breaker: new(breaker),
			Backend: moody(func(ctx context.Context, _ string) error {
				network.Connecting(ctx) // and never ends
				<-ctx.Done()
				return ctx.Err()
			})}}}
		for range breakAfter {
			ask(t, p, 1, "one")
		}
		if err := ask(t, p, 2, "two"); !isRefusal(err) {
			t.Errorf("a caller who never asked: %v", err)
		}
	})
}

// What waits for a place among another caller's requests says nothing of the backend.
func TestWaitingForAPlaceIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Path{entries: []Entry{{Name: "metastore", breaker: new(breaker),
			Backend: moody(func(ctx context.Context, _ string) error {
				network.Queued(ctx)
				<-ctx.Done()
				return ctx.Err()
			})}}}
		for i := range uint32(10) {
			if err := ask(t, p, i, fmt.Sprint("id", i)); isRefusal(err) {
				t.Fatal(err)
			}
		}
	})
}

func TestAProbeIsOfAnIDThatHasNotJustFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		var asked []string
		p := &Path{entries: []Entry{{Name: "vault", breaker: new(breaker),
			Backend: moody(func(_ context.Context, id string) error {
				asked = append(asked, id)
				if down || strings.HasPrefix(id, "bad") {
					return conn.Errorf(conn.Unreachable, "vault", "failed")
				}
				return nil
			})}}}
		for i := range uint32(breakAfter) {
			ask(t, p, i, fmt.Sprint("bad", i))
		}
		down = false
		ask(t, p, 9, "good") // refused, but it was asked for
		asked = nil
		time.Sleep(probeEvery)
		if err := ask(t, p, 1, "bad1"); !isRefusal(err) && len(asked) > 0 {
			t.Errorf("the id that failed was tried again: %v", err)
		}
		if err := ask(t, p, 9, "good"); err != nil {
			t.Errorf("the other id: %v", err)
		}
	})
}

// local is an outage of something that is in reach or not there at all.
type local struct {
	outage
	is bool
}

func (l *local) Local() bool { return l.is }

func TestNothingLocalHasABreaker(t *testing.T) {
	for _, c := range []struct {
		backend backend.Backend
		want    bool
	}{{&outage{}, true}, {&local{is: false}, true}, {&local{is: true}, false}} {
		if got := breakerFor(c.backend) != nil; got != c.want {
			t.Errorf("%T: has a breaker: %v", c.backend, got)
		}
	}
}
