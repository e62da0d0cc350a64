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

// lookupTimeout bounds one round of look-ups: a directory service that is down must
// hold up neither the start nor a reload for long.
const lookupTimeout = 15 * time.Second

// userTable keeps which uid each user name of the rules stands for. Names are
// looked up at start, at reload and at intervals, never by a read: a directory
// service can take seconds.
type userTable struct {
	log *slog.Logger

	mu     sync.Mutex
	uids   policy.UserTable
	warned map[string]bool
}

func newUserTable(log *slog.Logger) *userTable {
	return &userTable{log: log, uids: policy.UserTable{}, warned: make(map[string]bool)}
}

// refresh looks names up and reports whether anything changed. A directory that
// does not answer leaves what was known; one that says "unknown" takes it away.
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
	group.Wait()
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
		t.log.Warn("this machine does not know a run_as_user: its grants let nobody read", "users", Some(unknown))
	}
	for name := range found {
		delete(t.warned, name)
	}
	changed := !maps.Equal(now, t.uids)
	t.uids = now
	return changed
}

// maxNamed is how many names one line shows: documents can hold any number.
const maxNamed = 10

// Some joins names, or the first of them.
func Some(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}

// table returns the uids as they are known now. It is not changed afterwards.
func (t *userTable) table() policy.UserTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.uids
}
