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

// nextDAGs returns when to ask for DAGs again: not all daemons of a site at once, and
// soon after a failure. Where no rule needs them, never.
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

// reading is a reading of the serialized DAGs that goes on beside the daemon's other work.
type reading struct {
	cancel context.CancelFunc
	done   chan error
}

// readDAGs begins a reading; where no rule needs one, it returns nil.
func (d *daemon) readDAGs(ctx context.Context) *reading {
	if d.Front.DAGs == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{cancel, make(chan error, 1)}
	s := d.Session
	go func() {
		changed, err := s.RefreshDAGs(ctx, false)
		if err == nil && !changed {
			err = errUnchanged
		}
		r.done <- err
	}()
	return r
}

// errUnchanged says that the DAGs are as they were.
var errUnchanged = errors.New("unchanged")

// result gets the outcome when the reading is over; nil: there is none.
func (r *reading) result() <-chan error {
	if r == nil {
		return nil
	}
	return r.done
}

// stop ends the reading and waits until it has.
func (r *reading) stop() {
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// endDAGs brings the policy up to date with what a reading brought.
func (d *daemon) endDAGs(ctx context.Context, r *reading, err error) {
	r.cancel()
	if !d.tellDAGs(err) {
		return
	}
	d.RefreshUsers(ctx)
	d.broker.SetPolicy(d.Policy())
}

// renewDAGs asks the metastore of a new configuration.
func (d *daemon) renewDAGs(ctx context.Context) {
	if d.Front.DAGs != nil {
		d.tellDAGs(d.FirstDAGs(ctx))
	}
}

// tellDAGs logs what went wrong, and reports whether what is known changed.
func (d *daemon) tellDAGs(err error) bool {
	switch {
	case err == nil:
		return true
	case err == errUnchanged || conn.KindOf(err) == conn.Interrupted:
		return false
	case d.ExpireDAGs():
		d.log.Error("serialized DAGs cannot be read for longer than dags_keep: grants that name only DAGs let nobody read", "error", err)
		return true
	}
	d.log.Warn("serialized DAGs cannot be read: the users known from them stay", "error", err)
	return false
}
