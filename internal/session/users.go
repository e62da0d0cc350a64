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
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				found[name] = u.UID
			case errors.Is(err, users.ErrUnknown):
				gone[name] = true
			default:
				t.log.Warn("a run_as_user cannot be looked up", "user", name, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	t.mu.Lock()
	defer t.mu.Unlock()
	now := maps.Clone(t.uids)
	maps.Copy(now, found)
	var unknown []string
	for name := range gone {
		delete(now, name)
		if !t.warned[name] {
			unknown = append(unknown, name)
		}
		t.warned[name] = true
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		t.log.Warn("this machine does not know a run_as_user: its grants let nobody read",
			"users", JoinNames(unknown))
	}
	for name := range found {
		delete(t.warned, name)
	}
	changed := !maps.Equal(now, t.uids)
	t.uids = now
	return changed
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
