package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
)

// dagTable keeps what the metastore's serialized DAGs say. Only what changed is read,
// and while the metastore does not answer the last answer holds for a while.
type dagTable struct {
	log *slog.Logger

	mu   sync.Mutex
	rows map[string]resolver.DAGRow
	read time.Time // when the metastore last answered
	down bool      // it did not answer the last time
}

func newDAGTable(log *slog.Logger) *dagTable { return &dagTable{log: log} }

// dagsRetry is how soon a metastore that did not answer is asked again.
const dagsRetry = 10 * time.Second

// maxSkips bounds how many skipped parts one reading logs.
const maxSkips = 20

// refresh asks pool for what changed, and reports whether anything did. After an error
// the table is as it was. With anew, it asks for everything: another metastore can
// have the same revisions.
func (t *dagTable) refresh(ctx context.Context, pool *resolver.Pool, anew bool) (bool, error) {
	t.mu.Lock()
	old := t.rows
	t.mu.Unlock()
	if anew {
		old = nil
	}
	known := make(map[string]string, len(old))
	for key, row := range old {
		known[key] = row.Revision
	}
	answer, err := pool.DAGs(ctx, known)
	t.mu.Lock()
	t.down = err != nil
	t.mu.Unlock()
	if err != nil {
		return false, err
	}
	rows := make(map[string]resolver.DAGRow, len(answer))
	changed := len(answer) != len(old)
	said := 0
	for _, row := range answer {
		if before, ok := old[row.Key]; ok && row.Unchanged {
			rows[row.Key] = before
			continue
		}
		if before, ok := old[row.Key]; !ok || before.Revision != row.Revision {
			changed = true
			t.skipped(row, &said)
		}
		rows[row.Key] = row
	}
	if said > maxSkips {
		t.log.Warn("more serialized DAGs, or parts of them, do not count", "number", said-maxSkips)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows, t.read = rows, time.Now()
	return changed || anew, nil
}

// skipped logs why a row, or parts of it, do not count.
func (t *dagTable) skipped(row resolver.DAGRow, said *int) {
	for _, why := range row.Skipped {
		if *said++; *said <= maxSkips {
			t.log.Warn("a serialized DAG, or a part of it, does not count", "dag", row.ID, "reason", why)
		}
	}
}

// failing reports whether the metastore did not answer the last time.
func (t *dagTable) failing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.down
}

// expire forgets everything once the metastore has not answered for keep, and reports
// whether it did.
func (t *dagTable) expire(keep time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 || time.Since(t.read) < keep {
		return false
	}
	t.rows = nil
	return true
}

// dags returns what is known, in the order of the DAGs.
func (t *dagTable) dags() []resolver.DAG {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []resolver.DAG
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		all = append(all, t.rows[key].DAGs...)
	}
	slices.SortStableFunc(all, func(a, b resolver.DAG) int {
		switch {
		case a.DAG < b.DAG:
			return -1
		case a.DAG > b.DAG:
			return 1
		}
		return 0
	})
	return all
}

// facts returns what is known as the policy needs it.
func (t *dagTable) facts() []policy.Fact {
	var facts []policy.Fact
	for _, d := range t.dags() {
		facts = append(facts, d.Fact)
	}
	return facts
}

// dagsStart bounds the first reading of a daemon and of a new configuration: what else
// is granted, or was revoked, must not wait long for it. It is tried again soon after.
const dagsStart = 10 * time.Second

// firstDAGs reads the serialized DAGs for a session that knows none. A command, which
// cannot try again, has all the time that it may take.
func (s *Session) firstDAGs(ctx context.Context) error {
	if s.options.NeedMount {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dagsStart)
		defer cancel()
	}
	_, err := s.dags.refresh(ctx, s.pool, true)
	return err
}

// nextDAGs returns when to ask for DAGs again: not all daemons of a site at once, and
// soon after a failure. Where no rule needs them, never.
func (d *daemon) nextDAGs() time.Duration {
	switch s := d.Front.DAGs; {
	case s == nil:
		return math.MaxInt64
	case d.dags.failing():
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
	pool := d.pool
	go func() {
		changed, err := d.dags.refresh(ctx, pool, false)
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
	d.users.refresh(ctx, d.names())
	d.broker.SetPolicy(d.Policy())
}

// renewDAGs asks the metastore of a new configuration.
func (d *daemon) renewDAGs(ctx context.Context) {
	if d.Front.DAGs != nil {
		d.tellDAGs(d.firstDAGs(ctx))
	}
}

// tellDAGs logs what went wrong, and reports whether what is known changed.
func (d *daemon) tellDAGs(err error) bool {
	switch {
	case err == nil:
		return true
	case err == errUnchanged || conn.KindOf(err) == conn.Interrupted:
		return false
	case d.dags.expire(d.Front.DAGs.Keep):
		d.log.Error("serialized DAGs cannot be read for longer than dags_keep: grants that name only DAGs let nobody read", "error", err)
		return true
	}
	d.log.Warn("serialized DAGs cannot be read: the users known from them stay", "error", err)
	return false
}
