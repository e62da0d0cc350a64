package daemon

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

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

// readDAGs brings the policy up to date with the serialized DAGs.
func (d *daemon) readDAGs(ctx context.Context) {
	if d.Front.DAGs == nil || !d.refreshDAGs(ctx, false) {
		return
	}
	d.users.refresh(ctx, d.names())
	d.broker.SetPolicy(d.Policy())
}

// refreshDAGs asks the metastore, and reports whether what is known changed.
func (d *daemon) refreshDAGs(ctx context.Context, anew bool) bool {
	s := d.Front.DAGs
	if s == nil {
		return false
	}
	changed, err := d.dags.refresh(ctx, d.pool, anew)
	if err == nil {
		return changed
	}
	if d.dags.expire(s.Keep) {
		d.log.Error("serialized DAGs cannot be read for longer than dags_keep: grants that name only DAGs let nobody read", "error", err)
		return true
	}
	d.log.Warn("serialized DAGs cannot be read: the users known from them stay", "error", err)
	return false
}
