package commands

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/policy"
)

func TestExplanationSaysToWhomEachRuleThatNamesTheIDGrantsIt(t *testing.T) {
	named := func(line int, user string, patterns ...string) policy.Rule {
		return policy.Rule{RunAsUser: user, Connections: patterns, File: "c.toml", Line: line}
	}
	derived := func(line int, dag string, patterns ...string) policy.Rule {
		return policy.Rule{DAG: dag, Connections: patterns, File: "c.toml", Line: line}
	}
	cfg := policy.Config{
		Rules: []policy.Rule{
			named(1, "billing", "bills_*", "both"),
			named(2, "ghost", "haunted", "both"),
			derived(3, "invoices", "derived"),
			derived(4, "nothing_*", "unmatched"),
			derived(5, "rooted", "rooted_db"),
			derived(6, "unnamed", "unnamed_db"),
			{UID: new(uint32(77)), Connections: []string{"MixedCase"}, File: "c.toml", Line: 7},
		},
		Users: policy.UserTable{"billing": 5001, "etl": 5002, "daemon": 5003},
		Facts: []policy.Fact{
			{DAG: "invoices", Users: []string{"etl", "gone"}},
			{DAG: "rooted", Users: []string{"#0", "daemon"}},
			{DAG: "unnamed", Unnamed: true},
		},
		Never: []uint32{0, 5003, 65534},
	}
	const never = ": no DAG can grant anything to root, to connfs's own accounts or to the owner " +
		"of airflow_home"
	for _, c := range []struct {
		name, id string
		dagsFail bool
		want     []string
	}{
		{"nobody's", "other", false, []string{"no [[grant]] names this id"}},
		{"of another case", "mixedcase", false, []string{
			"no [[grant]] names this id",
			`c.toml:7 grants "MixedCase", and ids are compared byte for byte`,
		}},
		{"somebody else's", "bills_a", false, []string{
			`c.toml:1 grants it to run_as_user "billing", which is uid 5001`,
		}},
		{"an unknown user's, too", "both", false, []string{
			`c.toml:1 grants it to run_as_user "billing", which is uid 5001`,
			`c.toml:2 grants it to run_as_user "ghost", whom this machine does not know`,
		}},
		{"of a DAG", "derived", false, []string{
			`c.toml:3 grants it to run_as_user "etl", of DAG "invoices" (serialized), ` +
				`which is uid 5002`,
			`c.toml:3 grants it to run_as_user "gone", of DAG "invoices" (serialized), ` +
				`whom this machine does not know`,
		}},
		{"of no DAG", "unmatched", false, []string{
			"c.toml:4 grants it to the users of DAGs, and no serialized DAG matches it",
		}},
		{"of DAGs that cannot be read", "unmatched", true, []string{
			"c.toml:4 grants it to the users of DAGs, and the serialized DAGs cannot be read",
		}},
		{"of a DAG of root's", "rooted_db", false, []string{
			`c.toml:5: DAG "rooted" names "#0", which is uid 0` + never,
			`c.toml:5: DAG "rooted" names "daemon", which is uid 5003` + never,
		}},
		{"of a DAG without users", "unnamed_db", false, []string{
			"c.toml:6 grants it to the users of DAGs, and those that match have no valid " +
				"run_as_user; there is no default_impersonation, either",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, whyRefused(&cfg, c.id, c.dagsFail)); diff != "" {
				t.Errorf("why (-want +got):\n%s", diff)
			}
		})
	}
	want := []string{"there is no [[grant]] at all"}
	if diff := cmp.Diff(want, whyRefused(&policy.Config{}, "x", false)); diff != "" {
		t.Errorf("without grants (-want +got):\n%s", diff)
	}
	var many policy.Config
	for range 30 {
		many.Rules = append(many.Rules, named(1, "ghost", "*"))
	}
	why := whyRefused(&many, "x", false)
	if len(why) != maxWhy+1 || why[maxWhy] != "and 10 more" {
		t.Errorf("%d reasons, the last %q", len(why), why[len(why)-1])
	}
}

func TestExplanationNamesTheCaller(t *testing.T) {
	for uid, want := range map[uint32]string{
		0: "root", 4_000_000_000: "no account of this machine",
		nobody: "the kernel shows this uid in place of one that it cannot map, so no grant can " +
			"name it",
	} {
		if got := account(context.Background(), uid); got != want {
			t.Errorf("uid %d: %q, want %q", uid, got, want)
		}
	}
}

func TestExplanationRecognizesFileNames(t *testing.T) {
	for id, want := range map[string]string{
		"billing_db": "", "": "", "a%2Fb": "", "a/b.json": "", "%.json": "",
		"x.json.json": `"x.json.json" looks like a file name: the id of that file is "x.json"`,
		"a%2Fb.json":  `"a%2Fb.json" looks like a file name: the id of that file is "a/b"`,
	} {
		if got := fileNameNote(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}
