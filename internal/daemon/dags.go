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

// readDAGs begins a reading of what changed in the serialized DAGs, or with anew of all of them:
// a reload may have brought another metastore. It returns nil if no rule needs one.
func (d *daemon) readDAGs(ctx context.Context, anew bool) *work {
	if d.Front.DAGs == nil {
		return nil
	}
	s := d.Session
	return begin(ctx, func(ctx context.Context) error {
		changed, err := s.RefreshDAGs(ctx, anew)
		if err == nil && !changed {
			err = errUnchanged
		}
		return err
	})
}

// errUnchanged is the outcome of a reading that found the DAGs as they were.
var errUnchanged = errors.New("unchanged")

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
