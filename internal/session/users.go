package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/users"
)

// Bounds of one round of look-ups: a directory service that is down must not hold up the start or a
// reload for long.
const (
	lookupTimeout = 10 * time.Second
	// dagUsersTimeout is for the users that serialized DAGs name, for whom nothing waits. A daemon
	// that starts waits for them for dagUsersStart.
	dagUsersTimeout = 30 * time.Second
	dagUsersStart   = 3 * time.Second
)

// unknownAgain is how soon a name that serialized DAGs hold, and that the machine does not know, is
// asked for again, where there are more such names than fewUnknown. Whoever can write the metastore
// can make up thousands.
const (
	unknownAgain = 10 * time.Minute
	fewUnknown   = 100
)

// userTable keeps the uid of each of some user names. Names are looked up at the start, at a reload
// and at intervals, never by a read, because a directory service can take seconds. Names of the
// configuration and those of serialized DAGs are in tables of their own, so that the latter, of
// which there can be thousands, hold up nobody whom the configuration names.
type userTable struct {
	log   *slog.Logger
	whose string        // who names them, for the log
	again time.Duration // how long an unknown name is not asked for again, of many

	mu      sync.Mutex
	uids    policy.UserTable
	unknown map[string]time.Time // names that no account has, and when that was found out
	failing bool                 // some names could not be looked up the last time
}

func newUserTable(log *slog.Logger, whose string, again time.Duration) *userTable {
	return &userTable{log: log, whose: whose, again: again, uids: policy.UserTable{}}
}

// refresh looks names up, and forgets all others. It reports whether any uid changed. A name keeps
// its uid while the directory service does not answer, and loses it when that does not know the
// name.
func (t *userTable) refresh(ctx context.Context, names []string) (changed bool) {
	ask := t.due(names)
	// Where time runs out, it is not always for the same names.
	rand.Shuffle(len(ask), func(i, j int) { ask[i], ask[j] = ask[j], ask[i] })
	answer := users.LookupUIDs(ctx, ask)
	if errors.Is(ctx.Err(), context.Canceled) {
		return false // nobody wants to know any more
	}
	changed, unknown, failing := t.take(names, answer)
	if len(unknown) > 0 {
		t.log.Warn("this machine does not know users whom "+t.whose+
			": their grants let nobody read", "users", JoinNames(unknown))
	}
	if failing {
		slices.Sort(answer.Failed)
		t.log.Warn("users whom "+t.whose+" cannot be looked up",
			"users", JoinNames(answer.Failed), "error", answer.Err)
	}
	return changed
}

// due returns those of names that have to be asked for now.
func (t *userTable) due(names []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.unknown) <= fewUnknown {
		return slices.Clone(names)
	}
	ask := make([]string, 0, len(names))
	for _, name := range names {
		if since, ok := t.unknown[name]; !ok || time.Since(since) >= t.again {
			ask = append(ask, name)
		}
	}
	return ask
}

// take puts the outcome of a look-up in place. It returns whether any uid changed, the unknown
// names of which no warning has told yet, sorted, and whether look-ups fail that did not before.
func (t *userTable) take(
	names []string, a users.Answer,
) (changed bool, news []string, failing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := make(map[string]bool, len(a.Unknown))
	for _, name := range a.Unknown {
		gone[name] = true
	}
	now := make(policy.UserTable, len(a.UIDs))
	unknown := make(map[string]time.Time)
	for _, name := range names {
		since, before := t.unknown[name]
		uid, known := t.uids[name]
		if found, ok := a.UIDs[name]; ok {
			now[name] = found
		} else if gone[name] {
			unknown[name] = time.Now()
			if !before {
				news = append(news, name)
			}
		} else if before {
			unknown[name] = since
		} else if known {
			now[name] = uid
		}
	}
	changed = !maps.Equal(now, t.uids)
	failing = len(a.Failed) > 0 && !t.failing
	t.uids, t.unknown, t.failing = now, unknown, len(a.Failed) > 0
	slices.Sort(news)
	return changed, news, failing
}

// askAgain has every unknown name asked for again the next time.
func (t *userTable) askAgain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.unknown {
		t.unknown[name] = time.Time{}
	}
}

// fails reports whether some names could not be looked up the last time.
func (t *userTable) fails() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failing
}

// table returns the uids that are known now. Nothing changes the map afterwards.
func (t *userTable) table() policy.UserTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.uids
}

// RefreshUsers looks up the users that the configuration names, and reports whether any uid
// changed. It takes ten seconds at most.
func (s *Session) RefreshUsers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	cfg, _ := s.rules()
	names, _ := cfg.Names()
	return s.users.refresh(ctx, names)
}

// firstDAGUsers looks up the users that serialized DAGs name. A daemon, which will try again, waits
// three seconds at most.
func (s *Session) firstDAGUsers(ctx context.Context) {
	if s.Options.NeedMount {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dagUsersStart)
		defer cancel()
	}
	s.RefreshDAGUsers(ctx)
}

// AskForUnknownUsers has the next RefreshDAGUsers ask for names too that this machine did not know
// lately.
func (s *Session) AskForUnknownUsers() { s.dagUsers.askAgain() }

// RefreshDAGUsers looks up the users that serialized DAGs name, and reports whether any uid
// changed. It takes thirty seconds at most.
func (s *Session) RefreshDAGUsers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, dagUsersTimeout)
	defer cancel()
	cfg, over := s.rules()
	_, names := cfg.Names()
	s.dags.logOver(over)
	return s.dagUsers.refresh(ctx, names)
}

// UsersFail reports whether some users could not be looked up when they were last asked for.
func (s *Session) UsersFail() bool { return s.users.fails() || s.dagUsers.fails() }

// maxNames is how many names one line shows. Serialized DAGs can hold any number.
const maxNames = 10

// JoinNames joins names with commas. Of more than ten it shows the first, and how many follow.
func JoinNames(names []string) string {
	if len(names) <= maxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}
