package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/connfs/connfs/internal/policy"
)

// nobody is the uid that the kernel shows for a uid it cannot map. Neither it nor -1 is a
// particular user, so a grant to either would be one to strangers.
const nobody = 65534

const invalidUID = 1<<32 - 1

// readGrants returns the [[grant]] tables of a file.
func readGrants(root *table) []policy.Rule {
	var rules []policy.Rule
	for _, t := range root.array("grant") {
		rule := policy.Rule{File: t.file, Line: t.pos.line}
		before := len(t.report.errs)

		readWho(t, &rule)
		t.refuse("tenant", "")
		connections := value[[]string]{}
		t.require("connections", "a [[grant]] needs connections", `a list of patterns: ["billing_db", "warehouse_*"]`)
		t.texts("connections", &connections)
		if connections.set && len(connections.v) == 0 {
			t.fail("connections", "the list is empty, which grants nothing", `every connection: ["*"]`)
		}
		rule.Connections = connections.v
		sealed := value[bool]{}
		t.boolean("sealed", &sealed)
		rule.Sealed = sealed.v
		if len(t.report.errs) == before && !t.hasUnknown {
			rules = append(rules, rule)
		}
	}
	return rules
}

// pattern is one of a rule's patterns over DAGs.
type pattern struct {
	key string
	to  *string
}

// patterns returns a rule's patterns over DAGs in the order of the contract.
func patterns(rule *policy.Rule) []pattern {
	return []pattern{
		{"dag", &rule.DAG}, {"dag_file", &rule.DAGFile},
		{"bundle", &rule.Bundle}, {"team", &rule.Team},
	}
}

// readWho reads who gets a rule's connections: the user that it names, or else the users of
// the DAGs that it names. It refuses keys that narrow the DAGs next to a user: they would
// have no effect, and look as if they had.
func readWho(t *table, rule *policy.Rule) {
	raw, named := t.values["run_as_user"]
	if named {
		if message, hint := setUser(rule, raw); message != "" {
			t.fail("run_as_user", message, hint)
		}
	}
	for _, p := range patterns(rule) {
		if _, ok := t.values[p.key]; ok && named && p.key != "dag" {
			t.fail(p.key, "it has no effect next to run_as_user, which alone decides",
				"leave one of the two out")
			continue
		}
		v := value[string]{}
		t.text(p.key, &v, notEmpty)
		*p.to = v.v
	}
	switch {
	case named:
	case rule.DAGFile != "" || rule.Bundle != "" || rule.Team != "":
		t.require("dag", "a [[grant]] without a run_as_user needs a dag", `every DAG from there: dag = "*"`)
	default:
		t.require("dag", "a [[grant]] needs a run_as_user, or a dag whose users count", "")
	}
}

// setUser takes a run_as_user: text is a name, as in Airflow, a number is a uid,
// and so is text such as "#1234", as for sudo.
func setUser(rule *policy.Rule, raw any) (message, hint string) {
	switch v := raw.(type) {
	case int64:
		return setUID(rule, v)
	case string:
		number, isUID := strings.CutPrefix(v, "#")
		switch {
		case isUID:
			uid, err := strconv.ParseUint(number, 10, 63)
			if err != nil && number != "-1" {
				return "this is not a uid", `"#1234" is the uid 1234`
			} else if err != nil {
				return setUID(rule, -1)
			}
			return setUID(rule, int64(uid))
		case v == "" || v[0] == '-' || strings.ContainsAny(v, ":/\n\x00"):
			return "no user can have this name", ""
		}
		rule.RunAsUser = v
		return "", ""
	default:
		return fmt.Sprintf("expected a user name or a uid, got %s", kind(v)), ""
	}
}

func setUID(rule *policy.Rule, v int64) (message, hint string) {
	switch {
	case v == -1 || v == invalidUID:
		return "-1 and 4294967295 stand for no user", ""
	case v == nobody:
		return "65534 stands for every user that the kernel cannot map", ""
	case v < 0 || v > invalidUID:
		return "a uid has 32 bits", ""
	}
	uid := uint32(v)
	rule.UID = &uid
	return "", ""
}

func notEmpty(v string) (string, string) {
	if v == "" {
		return "it is empty", ""
	}
	return "", ""
}

// spellings returns the ids that the rules, and the list of KMS connections, spell out, each
// once.
func (f *file) spellings() []string {
	ids := slices.Clone(f.kmsConnections.v)
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	for _, rule := range f.rules {
		for _, pattern := range rule.Connections {
			if policy.IsLiteral(pattern) && !seen[pattern] {
				seen[pattern] = true
				ids = append(ids, pattern)
			}
		}
	}
	return ids
}
