package session

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
)

// dagTable keeps what the metastore's serialized DAGs say. Only what changed is read. While the
// metastore does not answer, its last answer holds for dags_keep.
type dagTable struct {
	log *slog.Logger

	mu   sync.Mutex
	rows map[string]resolver.DAGRow // by their key
	read time.Time                  // when the metastore last answered, by boottime.Now
	down bool                       // it did not answer the last time
	over []string                   // the DAGs of the last line of logOver
}

func newDAGTable(log *slog.Logger) *dagTable { return &dagTable{log: log} }

// maxSkips is how many DAGs, or parts of them, that are ignored one reading logs.
const maxSkips = 20

// refresh asks pool for what changed, and reports whether anything did. After an error the table
// is as it was. With anew, it asks for everything, since another metastore can have the same
// revisions.
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
	skips := 0
	for _, row := range answer {
		if before, ok := old[row.Key]; ok && row.Unchanged {
			rows[row.Key] = before
			continue
		}
		if before, ok := old[row.Key]; !ok || before.Revision != row.Revision {
			changed = true
			t.logSkipped(row, &skips)
		}
		rows[row.Key] = row
	}
	if skips > maxSkips {
		t.log.Warn("more serialized DAGs, or parts of them, are ignored",
			"number", skips-maxSkips)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows, t.read = rows, boottime.Now()
	return changed || anew, nil
}

// logSkipped logs why a row, or parts of it, are ignored, and counts them.
func (t *dagTable) logSkipped(row resolver.DAGRow, skips *int) {
	for _, why := range row.Skipped {
		if *skips++; *skips <= maxSkips {
			t.log.Warn("a serialized DAG, or a part of it, is ignored",
				"dag", row.ID, "reason", why)
		}
	}
}

// logOver logs which DAGs grant nothing because they name too many users, if these are not the same
// as before.
func (t *dagTable) logOver(over []string) {
	t.mu.Lock()
	same := slices.Equal(over, t.over)
	t.over = over
	t.mu.Unlock()
	if !same && len(over) > 0 {
		t.log.Warn("serialized DAGs name too many users in all: those that name the most grant "+
			"nothing", "dags", JoinNames(over), "limit", policy.MaxUsers)
	}
}

// failing reports whether the metastore did not answer when it was last asked.
func (t *dagTable) failing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.down
}

// expire forgets everything if the metastore has not answered for keep, and reports whether it
// did.
func (t *dagTable) expire(keep time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 || boottime.Since(t.read) < keep {
		return false
	}
	t.rows = nil
	return true
}

// dags returns what is known, sorted by DAG.
func (t *dagTable) dags() []resolver.DAG {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []resolver.DAG
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		all = append(all, t.rows[key].DAGs...)
	}
	slices.SortStableFunc(all, func(a, b resolver.DAG) int { return strings.Compare(a.DAG, b.DAG) })
	return all
}

// skipped says of which DAGs, or parts of them, nothing is known, and why, sorted by DAG.
func (t *dagTable) skipped() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, row := range t.rows {
		for _, why := range row.Skipped {
			all = append(all, fmt.Sprintf("%q: %s", row.ID, why))
		}
	}
	slices.Sort(all)
	return all
}

// facts returns what is known, as the policy takes it.
func (t *dagTable) facts() []policy.Fact {
	var facts []policy.Fact
	for _, d := range t.dags() {
		facts = append(facts, d.Fact)
	}
	return facts
}

// dagsStart bounds the first reading of a daemon, and of a new configuration: other grants, and
// what was revoked, must not wait long for it. It is repeated soon.
const dagsStart = 10 * time.Second

// FirstDAGs reads all serialized DAGs. A daemon, which will try again, waits ten seconds at most.
func (s *Session) FirstDAGs(ctx context.Context) error {
	if s.Options.NeedMount {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dagsStart)
		defer cancel()
	}
	_, err := s.dags.refresh(ctx, s.Pool, true)
	return err
}

// RefreshDAGs reads the serialized DAGs that changed, or with anew all of them, and reports
// whether any did change.
func (s *Session) RefreshDAGs(ctx context.Context, anew bool) (bool, error) {
	return s.dags.refresh(ctx, s.Pool, anew)
}

// DAGs returns what is known of the serialized DAGs, sorted by DAG.
func (s *Session) DAGs() []resolver.DAG { return s.dags.dags() }

// SkippedDAGs says which serialized DAGs, or parts of them, are ignored, and why.
func (s *Session) SkippedDAGs() []string { return s.dags.skipped() }

// DAGsFail reports whether the metastore did not answer when it was last asked for DAGs.
func (s *Session) DAGsFail() bool { return s.dags.failing() }

// ExpireDAGs forgets all serialized DAGs if they could not be read for dags_keep, and reports
// whether it did.
func (s *Session) ExpireDAGs() bool { return s.dags.expire(s.Front.DAGs.Keep) }
