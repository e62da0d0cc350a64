package awslogin

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

const (
	// attempts is how often a call is tried that breaks off or meets a fault of the
	// service.
	attempts = 3
	// shortest and longest bound the pause before a call is tried again, give or take a
	// half: what is back again is noticed within a second.
	shortest = 50 * time.Millisecond
	longest  = 600 * time.Millisecond
)

// Call calls f, which makes one call of a client with this login's configuration. What
// broke off or met a fault of the service it repeats a few times; where the service
// asks for fewer calls all callers pause together, until it takes them again; and
// where it calls the credentials bad they are renewed, once. All of it ends with ctx.
//
// kinds are error codes of the service that mean something other than the common
// table says. The error is a *conn.Error of a kind in that table, of those in kinds,
// or Timeout.
func (l *Login) Call(
	ctx context.Context, kinds map[string]conn.Kind, f func(context.Context) error,
) error {
	limit := l.settings.Attempts
	if limit == 0 {
		limit = attempts
	}
	renewed := false
	for try := 1; ; try++ {
		if err := l.pause.wait(ctx); err != nil {
			return err
		}
		err := f(ctx)
		if err == nil {
			l.pause.end()
			return nil
		}
		c := classify(ctx, err, kinds)
		switch {
		case c.err.Kind == conn.Timeout && ctx.Err() != nil:
			return c.err
		case c.class == throttled:
			if !l.pause.begin(ctx, c.err) {
				return c.err
			}
		case c.class == badCredentials && !renewed && l.creds.renew():
			renewed = true
		case c.class == transient && try < limit:
			if !sleep(ctx, backoff(try)) {
				return c.err
			}
		default:
			return c.err
		}
	}
}

// backoff is how long to wait after so many failures: twice as long each time, give or
// take a half.
func backoff(failures int) time.Duration {
	d := min(shortest<<min(failures-1, 10), longest)
	return d/2 + rand.N(d)
}

// sleep waits, and reports false at once where ctx would end before that.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pause is for how long nobody calls the service, because it asked for fewer calls.
type pause struct {
	mu       sync.Mutex
	failures int // since the last success
	until    time.Time
	cause    *conn.Error
}

// begin notes a throttled call. It reports false where the pause goes beyond ctx.
func (p *pause) begin(ctx context.Context, cause *conn.Error) bool {
	p.mu.Lock()
	// Calls that were under way together are one complaint.
	if now := time.Now(); now.After(p.until) {
		p.failures++
		p.until = now.Add(backoff(p.failures + 1))
	}
	p.cause = cause
	until := p.until
	p.mu.Unlock()
	deadline, ok := ctx.Deadline()
	return !ok || deadline.After(until)
}

// wait waits for the end of the pause. Where that comes after ctx's, its cause is the
// answer at once.
func (p *pause) wait(ctx context.Context) error {
	p.mu.Lock()
	left, cause := time.Until(p.until), p.cause
	p.mu.Unlock()
	if left <= 0 || sleep(ctx, left) {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return classify(ctx, ctx.Err(), nil).err
	}
	return cause
}

// end notes a success.
func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = 0
}
