package daemon

import (
	"context"
	"time"
)

// work is something slow that goes on beside the daemon's loop, which it must not hold up.
type work struct {
	cancel context.CancelFunc
	done   chan error    // gets the outcome
	ended  chan struct{} // is closed afterwards
}

// begin has do done on a goroutine of its own.
func begin(ctx context.Context, do func(ctx context.Context) error) *work {
	ctx, cancel := context.WithCancel(ctx)
	w := &work{cancel, make(chan error, 1), make(chan struct{})}
	go func() {
		defer close(w.ended)
		defer cancel()
		w.done <- do(ctx)
	}()
	return w
}

// result returns the channel that gets the outcome. It is nil if w is.
func (w *work) result() <-chan error {
	if w == nil {
		return nil
	}
	return w.done
}

// over returns the channel that is closed when the work has ended. It is nil if w is.
func (w *work) over() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.ended
}

// stop ends the work, if there is any, and waits for its end.
func (w *work) stop() {
	if w != nil {
		w.cancel()
		<-w.ended
	}
}

// usersEvery is roughly how often user names are looked up again: uids are reused. Where a
// directory service was down, that is usersRetry.
const (
	usersEvery = time.Minute
	usersRetry = 10 * time.Second
)

// nextUsers returns after how long to look users up again.
func (d *daemon) nextUsers() time.Duration {
	if d.UsersFail() {
		return jitter(usersRetry)
	}
	return jitter(usersEvery)
}

// lookUp begins a look-up of all users, those of the configuration first. The loop hears of a
// change by d.changed.
func (d *daemon) lookUp(ctx context.Context) *work {
	s := d.Session
	return begin(ctx, func(ctx context.Context) error {
		for _, refresh := range []func(context.Context) bool{s.RefreshUsers, s.RefreshDAGUsers} {
			if !refresh(ctx) {
				continue
			}
			select {
			case d.changed <- true:
			default: // the loop has yet to take the last one
			}
		}
		return nil
	})
}
