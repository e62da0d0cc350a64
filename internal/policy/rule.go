// Package policy decides who may read what: uid to run_as_user to DAGs to
// connection ids. It is pure: it does no I/O, looks no user up and keeps no
// state between decisions.
package policy

import (
	"strconv"

	"github.com/connfs/connfs/internal/python"
)

// Rule is one [[grant]] of the configuration. Where it names a user, that decides,
// and DAG is a label for the audit. Where it names none, the users are those whom the
// metastore's serialized DAGs name for the DAGs that it matches.
type Rule struct {
	RunAsUser   string   `json:"run_as_user,omitempty"` // a user name; empty where UID is set
	UID         *uint32  `json:"uid,omitempty"`         // a uid written as a number
	DAG         string   `json:"dag,omitempty"`         // pattern over dag ids
	DAGFile     string   `json:"dag_file,omitempty"`    // pattern over the file that Airflow recorded
	Bundle      string   `json:"bundle,omitempty"`      // pattern over the bundle that it came in
	Team        string   `json:"team,omitempty"`        // pattern over the bundle's team
	Connections []string `json:"connections"`           // patterns in the sense of Python's fnmatchcase
	Tenant      string   `json:"tenant,omitempty"`
	File        string   `json:"file"` // where the grant is written
	Line        int      `json:"line"`
}

// Derived reports whether the rule's users come from serialized DAGs.
func (r *Rule) Derived() bool { return r.RunAsUser == "" && r.UID == nil }

// User returns the run_as_user of the rule as the configuration writes it: a name,
// or "#" and a uid.
func (r *Rule) User() string {
	if r.UID != nil {
		return userOf(*r.UID)
	}
	return r.RunAsUser
}

// place returns where the rule is written.
func (r *Rule) place() string { return r.File + ":" + strconv.Itoa(r.Line) }

// covers reports whether a derived rule speaks of the DAG.
func (r *Rule) covers(f *Fact) bool {
	for _, c := range [][2]string{{r.DAG, f.DAG}, {r.DAGFile, f.File}, {r.Bundle, f.Bundle}, {r.Team, f.Team}} {
		if c[0] != "" && !python.Fnmatch(c[0], c[1]) {
			return false
		}
	}
	return true
}

// Fact is what the metastore's serialized DAGs say of one DAG.
type Fact struct {
	DAG    string   `json:"dag"`
	File   string   `json:"file,omitempty"`   // as Airflow recorded it; empty: not recorded
	Bundle string   `json:"bundle,omitempty"` // likewise
	Team   string   `json:"team,omitempty"`
	Users  []string `json:"users,omitempty"` // distinct run_as_user: names, or "#" and a uid
	// Unnamed says that some task names no user, so that [core] default_impersonation
	// counts for it.
	Unnamed bool `json:"unnamed,omitempty"`
}

func userOf(uid uint32) string { return "#" + strconv.FormatUint(uint64(uid), 10) }

// uidOf returns the uid in "#1234".
func uidOf(user string) (uint32, bool) {
	if len(user) < 2 || user[0] != '#' {
		return 0, false
	}
	n, err := strconv.ParseUint(user[1:], 10, 32)
	return uint32(n), err == nil
}
