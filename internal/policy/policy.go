package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// UserTable says which uid a user name stands for on this machine. A name that is
// missing grants nothing.
type UserTable map[string]uint32

// Config is what a policy is made of.
type Config struct {
	Rules []Rule
	Users UserTable
	Facts []Fact // for the derived rules; see [Rule]
	// DefaultUser is [core] default_impersonation: the user of tasks that name no user.
	// Empty: such tasks run as the worker, to whom they grant nothing.
	DefaultUser string
	// Never are uids to which no DAG can grant anything, such as root's and connfs's own.
	Never []uint32
	// SealedBy are the KMS that demand that every connection is sealed by one of them. None:
	// what is not sealed can be read too, but for rules that demand it.
	SealedBy []string
	// Owner, if not nil, is the one uid that may read everything without a rule: that of
	// an ordinary user who started connfs for their own use.
	Owner *uint32
}

// Where a grant's user comes from.
const (
	FromConfig        = "config"
	FromSerialized    = "serialized"
	FromImpersonation = "default_impersonation"
)

// Grant is one user of one rule, and for a derived rule of one DAG.
type Grant struct {
	DAG         string   `json:"dag_id"` // the dag_id if the rule is derived; else its label
	RunAsUser   string   `json:"run_as_user"`
	UID         *uint32  `json:"uid"` // nil: this machine does not know the user
	Connections []string `json:"connections"`
	Sealed      bool     `json:"sealed"` // connections that are not sealed are refused
	Tenant      string   `json:"tenant"`
	From        string   `json:"from"`
	Rule        string   `json:"rule"` // "file:line"
}

// Grants returns who may read what, in the order of the rules, and the grants to uids that
// must never have any. Both include users that this machine does not know, without a uid.
func (cfg *Config) Grants() (granted, never []Grant) {
	for i := range cfg.Rules {
		g, n := cfg.ruleGrants(&cfg.Rules[i])
		granted, never = append(granted, g...), append(never, n...)
	}
	return granted, never
}

// Covers reports whether some derived rule matches some DAG.
func (cfg *Config) Covers() bool {
	for i := range cfg.Rules {
		r := &cfg.Rules[i]
		covered := func(f Fact) bool { return r.covers(&f) }
		if r.Derived() && slices.ContainsFunc(cfg.Facts, covered) {
			return true
		}
	}
	return false
}

// ruleGrants returns the grants of one rule.
func (cfg *Config) ruleGrants(r *Rule) (granted, never []Grant) {
	if !r.Derived() {
		return []Grant{cfg.grant(r, r.DAG, r.User(), FromConfig)}, nil
	}
	for i := range cfg.Facts {
		f := &cfg.Facts[i]
		if !r.covers(f) {
			continue
		}
		for _, g := range cfg.derived(r, f) {
			if g.UID != nil && slices.Contains(cfg.Never, *g.UID) {
				never = append(never, g)
			} else {
				granted = append(granted, g)
			}
		}
	}
	return granted, never
}

// derived returns the grants of one DAG's users.
func (cfg *Config) derived(r *Rule, f *Fact) []Grant {
	var out []Grant
	for _, user := range f.Users {
		out = append(out, cfg.grant(r, f.DAG, user, FromSerialized))
	}
	if f.Unnamed && cfg.DefaultUser != "" && !slices.Contains(f.Users, cfg.DefaultUser) {
		out = append(out, cfg.grant(r, f.DAG, cfg.DefaultUser, FromImpersonation))
	}
	return out
}

func (cfg *Config) grant(r *Rule, dag, user, from string) Grant {
	g := Grant{
		DAG: dag, RunAsUser: user, Connections: r.Connections,
		Sealed: r.Sealed, Tenant: r.Tenant, From: from, Rule: r.place(),
	}
	if uid, ok := uidOf(user); ok {
		g.UID = &uid
	} else if uid, ok := cfg.Users[user]; ok {
		g.UID = &uid
	}
	return g
}

// Names returns the user names that have to be looked up, each once, in the order of the rules:
// those that the configuration names, and the others, which come from DAGs.
func (cfg *Config) Names() (config, dags []string) {
	seen := make(map[string]bool)
	add := func(names []string, user string) []string {
		if _, numeric := uidOf(user); numeric || seen[user] {
			return names
		}
		seen[user] = true
		return append(names, user)
	}
	for i := range cfg.Rules {
		if r := &cfg.Rules[i]; !r.Derived() {
			config = add(config, r.User())
		}
	}
	for i := range cfg.Rules {
		if r := &cfg.Rules[i]; r.Derived() {
			granted, never := cfg.ruleGrants(r)
			for _, g := range slices.Concat(granted, never) {
				dags = add(dags, g.RunAsUser)
			}
		}
	}
	return config, dags
}

// MaxUsers is how many users derived rules take from DAGs in all.
const MaxUsers = 5000

// Bound drops from cfg.Facts the DAGs that no derived rule matches. Where the others name more than
// [MaxUsers] users in all, it also drops those that name the most, which then grant nothing, and
// returns their ids: whoever can write one DAG, with any number of users, takes no place of others.
func (cfg *Config) Bound() (over []string) {
	var covered []Fact
	for i := range cfg.Facts {
		f := &cfg.Facts[i]
		covers := func(r Rule) bool { return r.Derived() && r.covers(f) }
		if slices.ContainsFunc(cfg.Rules, covers) {
			covered = append(covered, *f)
		}
	}
	order := make([]int, len(covered))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return len(covered[a].Users) - len(covered[b].Users)
	})
	users, dropped := make(map[string]bool), make([]bool, len(covered))
	for _, i := range order {
		added := 0
		for _, user := range covered[i].Users {
			if !users[user] {
				added++
			}
		}
		if dropped[i] = len(users)+added > MaxUsers; dropped[i] {
			continue
		}
		for _, user := range covered[i].Users {
			users[user] = true
		}
	}
	cfg.Facts = covered[:0:0]
	for i, f := range covered {
		if !dropped[i] {
			cfg.Facts = append(cfg.Facts, f)
		} else if len(over) == 0 || over[len(over)-1] != f.DAG {
			over = append(over, f.DAG)
		}
	}
	return over
}

// Policy answers who may read what. The zero Policy lets nobody read anything. A Policy
// never changes: a reload, or a change of users or DAGs, makes a new one.
type Policy struct {
	owner    *uint32 // may read everything
	sealedBy []string
	byUID    map[uint32]*grants
}

// grants is what one uid may read.
type grants struct {
	literal  map[string]*Decision // by id; the first rule in the configuration wins
	patterns []pattern
	sealed   []pattern // those of rules that demand sealed connections, literal ones too
}

type pattern struct {
	text     string
	decision *Decision
}

// Decision is the answer for one caller and one id.
type Decision struct {
	Allowed   bool
	RunAsUser string // the user of the rule that allowed it
	DAG       string // the dag_ids or the label of that rule
	Rule      string // "file:line" of the rule, or why no rule allows it

	// Sealed is the "file:line" of a rule that demands that the connection is sealed; empty: no
	// rule does. It need not be the rule that allowed it: each rule that names the uid and the
	// id can demand it.
	Sealed   string
	SealedBy []string // see [Config]
}

// Refuses says why a value that is allowed is refused nevertheless, for by whom it was sealed:
// the KMS of that name, or nobody, for which kms is empty. It returns "" if the value is not
// refused.
func (d *Decision) Refuses(kms string) string {
	switch {
	case kms == "" && d.Demands() != "":
		return "it is not sealed, which is demanded by " + d.Demands()
	case len(d.SealedBy) == 0 || slices.Contains(d.SealedBy, kms):
		return ""
	}
	return fmt.Sprintf("it is sealed by %q, and another KMS is demanded by %s", kms, d.Demands())
}

// Demands returns who demands that the connection is sealed: every KMS that does, as "kms.NAME",
// or else the rule; empty: nobody.
func (d *Decision) Demands() string {
	if len(d.SealedBy) > 0 {
		return "kms." + strings.Join(d.SealedBy, ", kms.")
	}
	return d.Sealed
}

// New compiles a policy.
func New(cfg Config) *Policy {
	p := &Policy{owner: cfg.Owner, sealedBy: cfg.SealedBy, byUID: make(map[uint32]*grants)}
	for i := range cfg.Rules {
		granted, _ := cfg.ruleGrants(&cfg.Rules[i])
		p.add(granted)
	}
	return p
}

// add compiles the grants of one rule.
func (p *Policy) add(rule []Grant) {
	decisions := make(map[uint32]*Decision)
	dags := make(map[uint32][]string)
	for _, g := range rule {
		if g.UID == nil {
			continue
		}
		uid := *g.UID
		// The grants of a DAG follow one another.
		if have := dags[uid]; g.DAG != "" && (len(have) == 0 || have[len(have)-1] != g.DAG) {
			dags[uid] = append(have, g.DAG)
		}
		if decisions[uid] != nil {
			continue
		}
		d := &Decision{
			Allowed: true, RunAsUser: g.RunAsUser, Rule: g.Rule, SealedBy: p.sealedBy,
		}
		decisions[uid] = d
		own := p.byUID[uid]
		if own == nil {
			own = &grants{literal: make(map[string]*Decision)}
			p.byUID[uid] = own
		}
		for _, text := range g.Connections {
			if g.Sealed {
				own.sealed = append(own.sealed, pattern{text, d})
			}
			if !IsLiteral(text) {
				own.patterns = append(own.patterns, pattern{text, d})
			} else if own.literal[text] == nil {
				own.literal[text] = d
			}
		}
	}
	for uid, d := range decisions {
		d.DAG = label(dags[uid])
	}
}

// maxLabel is how many DAGs a decision names.
const maxLabel = 5

// label joins dag ids for the audit.
func label(dags []string) string {
	if len(dags) <= maxLabel {
		return strings.Join(dags, ",")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(dags[:maxLabel], ","), len(dags)-maxLabel)
}

// Decide returns whether uid may read id, and by which rule.
func (p *Policy) Decide(uid uint32, id string) Decision {
	if p.owner != nil && *p.owner == uid {
		return Decision{Allowed: true, Rule: "own mount", SealedBy: p.sealedBy}
	}
	g := p.byUID[uid]
	if g == nil {
		return Decision{Rule: "no grant for this uid"}
	}
	d := g.literal[id]
	if d == nil {
		d = match(g.patterns, id)
	}
	if d == nil {
		return Decision{Rule: "no grant of this uid names the id"}
	}
	decision := *d
	if demands := match(g.sealed, id); demands != nil {
		decision.Sealed = demands.Rule
	}
	return decision
}

// match returns the decision of the first pattern that matches id; nil: none does.
func match(patterns []pattern, id string) *Decision {
	for _, p := range patterns {
		if python.Fnmatch(p.text, id) {
			return p.decision
		}
	}
	return nil
}

// ReadsAnything reports whether uid has any grant at all.
func (p *Policy) ReadsAnything(uid uint32) bool {
	return p.byUID[uid] != nil || p.owner != nil && *p.owner == uid
}
