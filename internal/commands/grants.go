package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
)

// Grants returns who may read what, with the users and DAGs that are known now. uid and id narrow
// it to one reader and to one connection; nil and "" do not. never is what serialized DAGs name
// but can never grant.
func Grants(s *session.Session, uid *uint32, id string) (granted, never []policy.Grant) {
	cfg := s.Rules()
	granted, never = cfg.Grants()
	unwanted := func(g policy.Grant) bool {
		return uid != nil && (g.UID == nil || *g.UID != *uid) ||
			id != "" && !matches(g.Connections, id)
	}
	return slices.DeleteFunc(granted, unwanted), slices.DeleteFunc(never, unwanted)
}

// Suggest writes [[grant]] blocks to start a policy from: for each DAG and each user of its tasks,
// the connections that its serialized form shows.
func Suggest(ctx context.Context, s *session.Session, w io.Writer) error {
	if _, err := s.RefreshDAGs(ctx, true); err != nil {
		return err
	}
	l, err := s.Pool.List(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(`# Grants to start from: the users and connections that the serialized DAGs show.
# They do not show ids in Python code, attributes that are not template fields, default
# values of TaskFlow arguments, and long templates past 4096 characters. Nor do they show
# which of a DAG's users needs which of its connections.
`)
	exists := func(string) bool { return true }
	if l.Complete {
		// Any word among the arguments of a Python task looks like an id.
		exists = func(id string) bool { _, ok := slices.BinarySearch(l.IDs, id); return ok }
		b.WriteString("# Only connections that exist are listed.\n")
	} else {
		b.WriteString("# Not every backend lists its connections: some of these may not exist.\n")
	}
	for _, d := range s.DAGs() {
		d.Connections = slices.DeleteFunc(slices.Clone(d.Connections),
			func(id string) bool { return !exists(id) })
		suggest(&b, &d)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// suggest writes the blocks for one DAG.
func suggest(b *bytes.Buffer, d *resolver.DAG) {
	name := quoteTOML(d.DAG)
	if d.Unnamed {
		fmt.Fprintf(b, "\n# %s has tasks without a run_as_user: they run as default_impersonation "+
			"or as the worker.\n", name)
	}
	switch {
	case len(d.Users) == 0:
		return
	case len(d.Connections) == 0:
		fmt.Fprintf(b, "\n# %s runs as %s and shows no connection.\n",
			name, quoteTOML(strings.Join(d.Users, ", ")))
		return
	}
	var patterns []string
	for _, id := range d.Connections {
		patterns = append(patterns, quoteTOML(policy.Literal(id)))
	}
	for _, user := range d.Users {
		fmt.Fprintf(b, "\n[[grant]]\ndag         = %s\nrun_as_user = %s\nconnections = [%s]\n",
			quoteTOML(policy.Literal(d.DAG)), quoteTOML(user), strings.Join(patterns, ", "))
	}
}

// quoteTOML returns s as a basic string of TOML. Only DEL is written otherwise than in JSON.
func quoteTOML(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always has a JSON form
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}
