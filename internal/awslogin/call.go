package awslogin

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/retry"
)

const (
	// attempts is how often a call is tried that breaks off or meets a fault of the
	// service.
	attempts = 3
)

// backoff is the pause before a call is tried again: what is back again is noticed within a
// second.
var backoff = retry.Backoff{First: 50 * time.Millisecond, Longest: 600 * time.Millisecond}

// Call calls f, which makes one call of a client with this login's configuration. What
// broke off or met a fault of the service it repeats a few times; where the service
// asks for fewer calls all callers pause together, until it takes them again; and
// where it calls the credentials bad they are renewed, once. All of it ends with ctx.
//
// kinds are error codes of the service that mean something other than the common
// table says. The error is a *conn.Error of a kind in that table, of those in kinds,
// or Timeout. Where time runs out on a repetition of what was throttled or broke off, that failure
// is the answer: it says more, and the same whatever the moment. Credentials that were called bad
// say nothing of the new ones, so there it is Timeout.
func (l *Login) Call(
	ctx context.Context, kinds map[string]conn.Kind, f func(context.Context) error,
) error {
	limit := l.settings.Attempts
	if limit == 0 {
		limit = attempts
	}
	renewed := false
	var before *conn.Error // what the service answered to the try that is repeated
	return retry.Do(ctx, func(try int) (time.Duration, error) {
		if err := l.pause.wait(ctx); err != nil {
			return retry.Stop, err
		}
		err := f(ctx)
		if err == nil {
			l.pause.end()
			return 0, nil
		}
		c := classify(ctx, err, kinds)
		if c.err.Kind == conn.Timeout && ctx.Err() != nil {
			if before != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return retry.Stop, before
			}
			return retry.Stop, c.err
		}
		before = nil
		switch {
		case c.class == throttled && l.pause.begin(ctx, c.err):
			before = c.err
			return 0, c.err
		case c.class == badCredentials && !renewed && l.creds.renew():
			renewed = true
			return 0, c.err
		case c.class == transient && try < limit:
			before = c.err
			return backoff.Jittered(try), c.err
		}
		return retry.Stop, c.err
	})
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
		p.until = now.Add(backoff.Jittered(p.failures + 1))
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
	if left <= 0 || retry.Wait(ctx, left) {
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
