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
	// Account is the caller's name on this machine, or says why it has no name.
	Account string `json:"account"`
	// Why says, where the policy refuses, to whom each rule that names the id grants it.
	Why []string `json:"why,omitempty"`
	// Note says what the caller may have meant by the id.
	Note string `json:"note,omitempty"`
	// Limits says what can refuse a read that the policy allows.
	Limits string `json:"limits"`
}

func details(
	ctx context.Context, s *session.Session, uid uint32, id string, d policy.Decision,
) Details {
	out := Details{Account: account(ctx, uid), Note: fileNameNote(id), Limits: limits(s)}
	if !d.Allowed {
		rules := s.Rules()
		out.Why = whyRefused(&rules, id, s.Front.DAGs != nil && s.DAGsFail())
	}
	return out
}

// account returns the name of uid, or says why it has no name.
func account(ctx context.Context, uid uint32) string {
	if uid == nobody {
		return "the kernel shows this uid in place of one that it cannot map, so no grant can " +
			"name it"
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

// fileNameNote says which id is meant where a file name was given as an id.
func fileNameNote(id string) string {
	meant, err := conn.IDFromFileName(id)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%q looks like a file name: the id of that file is %q", id, meant)
}

// limits says what can refuse a read that the policy allows. These limits are the daemon's: the
// command explain itself is not bound by them.
func limits(s *session.Session) string {
	return fmt.Sprintf("the daemon allows each uid %d fetches at a time (more wait, and get "+
		"ETIMEDOUT after %s), %d unknown ids a second (then EAGAIN) and its share of %d MiB for "+
		"values (EAGAIN while all of it is in use); its audit and log show which reads that "+
		"refused",
		broker.MaxInFlight, s.Front.Timeout, broker.MaxUnknown, session.CacheSize>>20)
}

// matches reports whether one of patterns matches id.
func matches(patterns []string, id string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return python.Fnmatch(p, id) })
}

// maxWhy is how many reasons an explanation shows.
const maxWhy = 20

// whyRefused says of every rule that names id to whom it grants it, for a caller who is not among
// them. dagsFail says that the serialized DAGs cannot be read.
func whyRefused(cfg *policy.Config, id string, dagsFail bool) []string {
	var why []string
	var otherCase string
	for i := range cfg.Rules {
		rule := &cfg.Rules[i]
		if matches(rule.Connections, id) {
			why = append(why, grantees(cfg, rule, dagsFail)...)
			continue
		}
		for _, p := range rule.Connections {
			if otherCase == "" && python.Fnmatch(strings.ToLower(p), strings.ToLower(id)) {
				otherCase = fmt.Sprintf("%s:%d grants %q, and ids are compared byte for byte",
					rule.File, rule.Line, p)
			}
		}
	}
	switch {
	case len(why) > maxWhy:
		return append(why[:maxWhy], fmt.Sprintf("and %d more", len(why)-maxWhy))
	case len(why) > 0:
		return why
	case otherCase != "":
		return []string{"no [[grant]] names this id", otherCase}
	case len(cfg.Rules) == 0:
		return []string{"there is no [[grant]] at all"}
	}
	return []string{"no [[grant]] names this id"}
}

// grantees says to whom one rule grants its connections.
func grantees(cfg *policy.Config, rule *policy.Rule, dagsFail bool) []string {
	one := *cfg
	one.Rules = []policy.Rule{*rule}
	granted, never := one.Grants()
	place := fmt.Sprintf("%s:%d", rule.File, rule.Line)
	var all []string
	add := func(format string, args ...any) {
		all = append(all, place+fmt.Sprintf(format, args...))
	}
	for _, g := range granted {
		whom := fmt.Sprintf("run_as_user %q", g.RunAsUser)
		if rule.Derived() {
			whom += fmt.Sprintf(", of DAG %q (%s)", g.DAG, g.From)
		}
		if g.UID == nil {
			add(" grants it to %s, whom this machine does not know", whom)
		} else {
			add(" grants it to %s, which is uid %d", whom, *g.UID)
		}
	}
	for _, g := range never {
		add(": DAG %q names %q, which is uid %d: no DAG can grant anything to root, to connfs's "+
			"own accounts or to the owner of airflow_home", g.DAG, g.RunAsUser, *g.UID)
	}
	if len(all) > 0 || !rule.Derived() {
		return all
	}
	switch {
	case dagsFail:
		add(" grants it to the users of DAGs, and the serialized DAGs cannot be read")
	case !one.Covers():
		add(" grants it to the users of DAGs, and no serialized DAG matches it")
	default:
		add(" grants it to the users of DAGs, and those that match have no valid run_as_user; " +
			"there is no default_impersonation, either")
	}
	return all
}
