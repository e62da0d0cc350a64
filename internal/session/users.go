package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/users"
)

// lookupTimeout bounds one round of look-ups: a directory service that is down must not hold up
// the start or a reload for long.
const lookupTimeout = 15 * time.Second

// userTable keeps the uid of each user name in the rules. Names are looked up at the start, at a
// reload and at intervals, never by a read, because a directory service can take seconds.
type userTable struct {
	log *slog.Logger

	mu     sync.Mutex
	uids   policy.UserTable
	warned map[string]bool // unknown names that a warning has named
}

func newUserTable(log *slog.Logger) *userTable {
	return &userTable{log: log, uids: policy.UserTable{}, warned: make(map[string]bool)}
}

// refresh looks names up and reports whether anything changed. A name keeps its uid while the
// directory service does not answer, and loses it when that does not know the name.
func (t *userTable) refresh(ctx context.Context, names []string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var mu sync.Mutex
	found := make(map[string]uint32)
	gone := make(map[string]bool)
	var group errgroup.Group
	group.SetLimit(8)
	for _, name := range names {
		group.Go(func() error {
			u, err := users.Lookup(ctx, name)
			unknown := errors.Is(err, users.ErrUnknown)
			if err != nil && !unknown {
				t.log.Warn("a run_as_user cannot be looked up", "user", name, "error", err)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if unknown {
				gone[name] = true
			} else {
				found[name] = u.UID
			}
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	changed, unknown := t.take(found, gone)
	if len(unknown) > 0 {
		t.log.Warn("this machine does not know a run_as_user: its grants let nobody read",
			"users", JoinNames(unknown))
	}
	return changed
}

// take puts the outcome of a look-up in place. It reports whether anything changed, and which
// unknown names no warning has named yet.
func (t *userTable) take(
	found map[string]uint32, gone map[string]bool,
) (changed bool, unknown []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := maps.Clone(t.uids)
	maps.Copy(now, found)
	for name := range gone {
		delete(now, name)
		if !t.warned[name] {
			unknown = append(unknown, name)
		}
		t.warned[name] = true
	}
	slices.Sort(unknown)
	for name := range found {
		delete(t.warned, name)
	}
	changed = !maps.Equal(now, t.uids)
	t.uids = now
	return changed, unknown
}

// maxNames is how many names one line shows. Serialized DAGs can hold any number.
const maxNames = 10

// JoinNames joins names with commas. Of more than ten it shows the first, and how many follow.
func JoinNames(names []string) string {
	if len(names) <= maxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}

// table returns the uids that are known now. Nothing changes the map afterwards.
func (t *userTable) table() policy.UserTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.uids
}
