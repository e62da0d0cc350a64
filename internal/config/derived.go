package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/dags"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/settings"
)

// derivedRules returns the rules whose users come from serialized DAGs.
func (f *file) derivedRules() []policy.Rule {
	named := func(r policy.Rule) bool { return !r.Derived() }
	return slices.DeleteFunc(slices.Clone(f.rules), named)
}

// refuseDerived reports the derived rules where config.toml switches deriving off. A
// rule that silently granted nothing would seem to work until somebody reads.
func (l *loader) refuseDerived(f *file) {
	if f.dags.v {
		return
	}
	for _, r := range f.derivedRules() {
		l.add(&Error{
			File: r.File, Line: r.Line, Key: "grant",
			Message: fmt.Sprintf("it names no run_as_user, and metastore.dags = false (%s) takes "+
				"none from the DAGs", f.dags.from()),
			Hint: "name the run_as_user, or set metastore.dags = true",
		})
	}
}

// deriving returns how the users of derived rules are found; nil if there is no such
// rule. It warns of what such rules trust.
func (l *loader) deriving(f *file, a *airflow, h home, child account) *settings.DAGs {
	rules := f.derivedRules()
	if len(rules) == 0 || len(l.errs) > 0 {
		return nil
	}
	if a.metastore == nil {
		for _, r := range rules {
			l.add(&Error{
				File: r.File, Line: r.Line, Key: "grant",
				Message: "it names no run_as_user, and there is no metastore to take one from: " +
					strings.TrimPrefix(a.why, "not searched: "),
				Hint: "name the run_as_user, or set metastore.url or airflow_home",
			})
		}
		return nil
	}
	for _, r := range rules {
		if r.DAGFile == "" && r.Bundle == "" && r.Team == "" {
			l.warn("%s:%d: this grant trusts every author who can name a DAG %q; dag_file, "+
				"bundle or team would narrow it", r.File, r.Line, r.DAG)
		}
	}
	l.warn("grants without run_as_user trust whoever can write the metastore, " +
		"which with Airflow 2 is every task")
	return &settings.DAGs{
		Every:       f.dagsEvery.v,
		Keep:        f.dagsKeep.v,
		DefaultUser: l.defaultUser(a.impersonation),
		Never:       l.never(h, child),
	}
}

// defaultUser returns the user of tasks that name none: [core] default_impersonation,
// which Airflow hands to sudo as it does the users of tasks.
func (l *loader) defaultUser(v value[string]) string {
	if v.v == "" {
		return ""
	}
	user, reason := dags.CheckUser(v.v)
	if reason != "" {
		l.warn("[core] default_impersonation (%s) is ignored: %s", v.origin, reason)
	}
	return user
}

// never returns the uids that no DAG can grant, whatever it names: those that stand
// for nobody, and those who hold the keys to what connfs reads.
func (l *loader) never(h home, child account) []uint32 {
	uids := []uint32{0, nobody, invalidUID, uint32(l.EUID)}
	if child.Child != nil {
		uids = append(uids, child.UID)
	}
	if h.path != "" {
		uids = append(uids, h.uid)
	}
	slices.Sort(uids)
	return slices.Compact(uids)
}
