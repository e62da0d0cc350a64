// Package policy decides who may read what: uid to run_as_user to DAGs to
// connection ids. It is pure: it does no I/O, looks no user up and keeps no
// state between decisions.
package policy

// Rule is one [[grant]] of the configuration.
type Rule struct {
	RunAsUser   string   `json:"run_as_user,omitempty"` // a user name; empty where UID is set
	UID         *uint32  `json:"uid,omitempty"`         // a uid written as a number
	DAG         string   `json:"dag,omitempty"`         // label in the audit, where the user decides
	Connections []string `json:"connections"`           // patterns in the sense of Python's fnmatchcase
	Tenant      string   `json:"tenant,omitempty"`
	File        string   `json:"file"` // where the grant is written
	Line        int      `json:"line"`
}
