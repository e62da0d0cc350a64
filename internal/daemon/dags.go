package daemon

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/connfs/connfs/conn"
)

// dagsRetry is how soon a metastore that did not answer is asked again.
const dagsRetry = 10 * time.Second

// nextDAGs returns after how long to ask for serialized DAGs again: soon after a failure, and
// never if no rule needs them.
func (d *daemon) nextDAGs() time.Duration {
	switch s := d.Front.DAGs; {
	case s == nil:
		return math.MaxInt64
	case d.DAGsFail():
		return jitter(min(s.Every, dagsRetry))
	default:
		return jitter(s.Every)
	}
}

// dagReading is one reading of the serialized DAGs, beside the daemon's other work.
type dagReading struct {
	cancel context.CancelFunc
	done   chan error    // gets nil if the DAGs have changed
	ended  chan struct{} // is closed afterwards
}

// readDAGs begins a reading. If no rule needs one, it returns nil.
func (d *daemon) readDAGs(ctx context.Context) *dagReading {
	if d.Front.DAGs == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &dagReading{cancel, make(chan error, 1), make(chan struct{})}
	s := d.Session
	go func() {
		defer close(r.ended)
		changed, err := s.RefreshDAGs(ctx, false)
		if err == nil && !changed {
			err = errUnchanged
		}
		r.done <- err
	}()
	return r
}

// errUnchanged is the outcome of a reading that found the DAGs as they were.
var errUnchanged = errors.New("unchanged")

// result returns the channel that gets the outcome. It is nil if r is.
func (r *dagReading) result() <-chan error {
	if r == nil {
		return nil
	}
	return r.done
}

// stop ends the reading, if there is one, and waits for its end.
func (r *dagReading) stop() {
	if r != nil {
		r.cancel()
		<-r.ended
	}
}

// endDAGs takes the outcome of a reading, and renews the policy if the DAGs have changed.
func (d *daemon) endDAGs(ctx context.Context, r *dagReading, err error) {
	r.cancel()
	if !d.dagsChanged(err) {
		return
	}
	d.RefreshUsers(ctx)
	d.broker.SetPolicy(d.Policy())
}

// renewDAGs reads the DAGs after a reload, which may have brought another metastore.
func (d *daemon) renewDAGs(ctx context.Context) {
	if d.Front.DAGs != nil {
		d.dagsChanged(d.FirstDAGs(ctx))
	}
}

// dagsChanged reports whether a reading with this outcome changed what is known of the DAGs,
// and logs what went wrong.
func (d *daemon) dagsChanged(err error) bool {
	switch {
	case err == nil:
		return true
	case err == errUnchanged || conn.KindOf(err) == conn.Interrupted:
		return false
	case d.ExpireDAGs():
		d.log.Error("serialized DAGs could not be read for as long as dags_keep: "+
			"grants that name only DAGs let nobody read", "error", err)
		return true
	}
	d.log.Warn("serialized DAGs cannot be read: the users known from them stay", "error", err)
	return false
}
