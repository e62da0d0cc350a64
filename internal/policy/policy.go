package policy

import (
	"fmt"
	"strconv"
)

// UserTable says which uid a user name stands for on this machine. A name that is
// missing grants nothing.
type UserTable map[string]uint32

// Policy answers who may read what. The zero Policy lets nobody read anything. It
// is immutable: a reload or a change of users makes a new one.
type Policy struct {
	owner    *uint32 // may read everything
	byUID    map[uint32]*grants
	patterns []string // of all rules together, for Grantable
	literals map[string]bool
}

// grants is what one uid may read.
type grants struct {
	literal  map[string]*Decision // by id; the first rule in the configuration wins
	patterns []pattern
}

type pattern struct {
	text     string
	decision *Decision
}

// Decision is the answer for one caller and one id.
type Decision struct {
	Allowed   bool
	RunAsUser string // the user of the rule that allowed it
	DAG       string // its label
	Rule      string // "file:line", or why there is none
}

// New compiles rules with the users as they are now. owner, if not nil, is the
// one uid that may read everything without a rule: the ordinary user who started
// connfs for itself.
func New(rules []Rule, users UserTable, owner *uint32) *Policy {
	p := &Policy{owner: owner, byUID: make(map[uint32]*grants), literals: make(map[string]bool)}
	seen := make(map[string]bool)
	for i := range rules {
		r := &rules[i]
		for _, text := range r.Connections {
			switch {
			case IsLiteral(text):
				p.literals[text] = true
			case !seen[text]:
				seen[text] = true
				p.patterns = append(p.patterns, text)
			}
		}
		uid, ok := r.uid(users)
		if !ok {
			continue
		}
		g := p.byUID[uid]
		if g == nil {
			g = &grants{literal: make(map[string]*Decision)}
			p.byUID[uid] = g
		}
		d := &Decision{Allowed: true, RunAsUser: r.User(), DAG: r.DAG, Rule: fmt.Sprintf("%s:%d", r.File, r.Line)}
		for _, text := range r.Connections {
			if !IsLiteral(text) {
				g.patterns = append(g.patterns, pattern{text, d})
			} else if g.literal[text] == nil {
				g.literal[text] = d
			}
		}
	}
	return p
}

func (r *Rule) uid(users UserTable) (uint32, bool) {
	if r.UID != nil {
		return *r.UID, true
	}
	uid, ok := users[r.RunAsUser]
	return uid, ok
}

// User returns the run_as_user of the rule as the configuration writes it: a name,
// or "#" and a uid.
func (r *Rule) User() string {
	if r.UID != nil {
		return "#" + strconv.FormatUint(uint64(*r.UID), 10)
	}
	return r.RunAsUser
}

// Decide says whether uid may read id now, and by which rule.
func (p *Policy) Decide(uid uint32, id string) Decision {
	if p.owner != nil && *p.owner == uid {
		return Decision{Allowed: true, Rule: "own mount"}
	}
	g := p.byUID[uid]
	if g == nil {
		return Decision{Rule: "no grant for this uid"}
	}
	if d := g.literal[id]; d != nil {
		return *d
	}
	for _, pt := range g.patterns {
		if Match(pt.text, id) {
			return *pt.decision
		}
	}
	return Decision{Rule: "no grant of this uid names the id"}
}

// Grantable reports whether any rule could let anybody read id, also rules of
// users that this machine does not know at present.
func (p *Policy) Grantable(id string) bool {
	if p.owner != nil || p.literals[id] {
		return true
	}
	for _, text := range p.patterns {
		if Match(text, id) {
			return true
		}
	}
	return false
}

// ReadsAnything reports whether uid has any grant at all.
func (p *Policy) ReadsAnything(uid uint32) bool {
	return p.byUID[uid] != nil || p.owner != nil && *p.owner == uid
}

// Names returns the user names that rules use, each once, in order.
func Names(rules []Rule) []string {
	var names []string
	seen := make(map[string]bool)
	for _, r := range rules {
		if r.UID == nil && !seen[r.RunAsUser] {
			seen[r.RunAsUser] = true
			names = append(names, r.RunAsUser)
		}
	}
	return names
}
