package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/broker"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/python"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/users"
)

// Details is what an explanation says beside the decision and the answers.
type Details struct {
	Account string   `json:"account"`        // the caller's name on this machine, or why it has none
	Why     []string `json:"why,omitempty"`  // where the policy refuses: what every rule that names the id asks for
	Note    string   `json:"note,omitempty"` // what may have been meant
	Limits  string   `json:"limits"`         // what can refuse a read that is allowed
}

func details(ctx context.Context, s *session.Session, uid uint32, id string, d policy.Decision) Details {
	out := Details{Account: account(ctx, uid), Note: meant(id), Limits: limits(s)}
	if !d.Allowed {
		rules := s.Rules()
		out.Why = missing(&rules, uid, id, s.Front.DAGs != nil && s.DAGsFail())
	}
	return out
}

// account returns the name of uid, or in words that there is none.
func account(ctx context.Context, uid uint32) string {
	if uid == nobody {
		return "the uid that the kernel shows for one it cannot map: nobody can be granted by it"
	}
	u, err := users.LookupUID(ctx, uid)
	switch {
	case err == nil:
		return u.Name
	case errors.Is(err, users.ErrUnknown):
		return "no account of this machine"
	default:
		return "its account cannot be looked up now"
	}
}

// nobody is the overflow uid of user_namespaces(7).
const nobody = 65534

// meant says which id a file name stands for, where one was given as an id.
func meant(id string) string {
	if of, err := conn.IDFromFileName(id); err == nil {
		return fmt.Sprintf("%q looks like a file name: the id of that file is %q", id, of)
	}
	return ""
}

// limits says what can refuse a read that the policy allows. They count in the daemon, and
// an explanation asks by itself.
func limits(s *session.Session) string {
	return fmt.Sprintf("the daemon keeps each uid to %d fetches at a time (more wait, ETIMEDOUT after %s), to %d unknown ids a second (EAGAIN) and to its share of %d MiB of slots (EAGAIN while all are in use); its audit and log show where that refused a read",
		broker.MaxInFlight, s.Front.Timeout, broker.MaxUnknown, session.CacheSize>>20)
}

// maxWhy is how many rules an explanation goes through.
const maxWhy = 20

// missing says, for every rule that names id, to whom it grants and why uid is none of
// them. silent says that the serialized DAGs cannot be read.
func missing(cfg *policy.Config, uid uint32, id string, silent bool) []string {
	var why []string
	var near string
	for i := range cfg.Rules {
		rule := &cfg.Rules[i]
		if !slices.ContainsFunc(rule.Connections, func(p string) bool { return python.Fnmatch(p, id) }) {
			for _, p := range rule.Connections {
				if near == "" && python.Fnmatch(strings.ToLower(p), strings.ToLower(id)) {
					near = fmt.Sprintf("%s:%d grants %q, and ids are compared byte for byte", rule.File, rule.Line, p)
				}
			}
			continue
		}
		why = append(why, missingOf(cfg, rule, uid, silent)...)
	}
	switch {
	case len(why) > maxWhy:
		return append(why[:maxWhy], fmt.Sprintf("and %d more", len(why)-maxWhy))
	case len(why) > 0:
		return why
	case near != "":
		return []string{"no [[grant]] names this id", near}
	case len(cfg.Rules) == 0:
		return []string{"there is no [[grant]] at all"}
	}
	return []string{"no [[grant]] names this id"}
}

// missingOf is missing for one rule that names the id.
func missingOf(cfg *policy.Config, rule *policy.Rule, uid uint32, silent bool) []string {
	one := *cfg
	one.Rules = []policy.Rule{*rule}
	granted, never := one.Grants()
	place := fmt.Sprintf("%s:%d", rule.File, rule.Line)
	var why []string
	for _, g := range granted {
		whom := fmt.Sprintf("run_as_user %q", g.RunAsUser)
		if rule.Derived() {
			whom += fmt.Sprintf(", of DAG %q (%s)", g.DAG, g.From)
		}
		if g.UID == nil {
			why = append(why, fmt.Sprintf("%s grants it to %s, whom this machine does not know", place, whom))
		} else {
			why = append(why, fmt.Sprintf("%s grants it to %s, which is uid %d", place, whom, *g.UID))
		}
	}
	for _, g := range never {
		why = append(why, fmt.Sprintf("%s: DAG %q names %q, which is uid %d: no DAG can grant anything to root, to connfs's own accounts or to the owner of airflow_home", place, g.DAG, g.RunAsUser, *g.UID))
	}
	if len(why) > 0 || !rule.Derived() {
		return why
	}
	switch {
	case silent:
		return []string{place + " grants it to the users of DAGs, and the serialized DAGs cannot be read"}
	case !one.Covers():
		return []string{place + " grants it to the users of DAGs, and no serialized DAG matches it"}
	}
	return []string{place + " grants it to the users of DAGs, and those that match name no run_as_user that counts, nor is there a default_impersonation"}
}
