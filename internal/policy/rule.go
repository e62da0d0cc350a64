// Package policy decides who may read what: from a uid to a run_as_user, to DAGs, to
// connection ids. It is pure: it does no I/O, looks up no user and keeps no
// state between decisions.
package policy

import (
	"strconv"

	"github.com/connfs/connfs/internal/python"
)

// Rule is one [[grant]] of the configuration. If it names a user, it is for that user,
// and DAG is only a label for the audit. If it names no user, it is derived: it is for the
// users that serialized DAGs in the metastore name, in the DAGs that it matches.
type Rule struct {
	RunAsUser string  `json:"run_as_user,omitempty"` // a user name; empty if UID is set
	UID       *uint32 `json:"uid,omitempty"`         // a uid written as a number
	// These are patterns, as all patterns here in the sense of Python's fnmatchcase, for
	// the dag id, the file that Airflow recorded, the bundle, and the bundle's team.
	DAG     string `json:"dag,omitempty"`
	DAGFile string `json:"dag_file,omitempty"`
	Bundle  string `json:"bundle,omitempty"`
	Team    string `json:"team,omitempty"`

	Connections []string `json:"connections"` // patterns for connection ids
	// Sealed says that the connections are refused where they are not sealed.
	Sealed bool   `json:"sealed,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	File   string `json:"file"` // where the grant is written
	Line   int    `json:"line"`
}

// Derived reports whether the rule's users come from serialized DAGs.
func (r *Rule) Derived() bool { return r.RunAsUser == "" && r.UID == nil }

// User returns the user of a rule that is not derived, in the form of a run_as_user: a
// name, or "#" and a uid.
func (r *Rule) User() string {
	if r.UID != nil {
		return userOf(*r.UID)
	}
	return r.RunAsUser
}

// place returns where the rule is written.
func (r *Rule) place() string { return r.File + ":" + strconv.Itoa(r.Line) }

// covers reports whether a derived rule matches the DAG.
func (r *Rule) covers(f *Fact) bool {
	for _, c := range [][2]string{
		{r.DAG, f.DAG}, {r.DAGFile, f.File}, {r.Bundle, f.Bundle}, {r.Team, f.Team},
	} {
		if c[0] != "" && !python.Fnmatch(c[0], c[1]) {
			return false
		}
	}
	return true
}

// Fact is what a serialized DAG in the metastore says about itself.
type Fact struct {
	DAG    string   `json:"dag"`
	File   string   `json:"file,omitempty"`   // as Airflow recorded it; empty: not recorded
	Bundle string   `json:"bundle,omitempty"` // empty: not recorded
	Team   string   `json:"team,omitempty"`
	Users  []string `json:"users,omitempty"` // distinct run_as_user: names, or "#" and a uid
	// Unnamed is true if some task names no user, so that [core] default_impersonation
	// decides about it.
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
