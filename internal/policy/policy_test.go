package policy_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/python"
)

func uid(n uint32) *uint32 { return &n }

func TestDecide(t *testing.T) {
	rules := []policy.Rule{
		{
			RunAsUser: "billing", Connections: []string{"billing_db", "warehouse_*"},
			DAG: "billing_*", File: "a.toml", Line: 3,
		},
		{UID: uid(5001), Connections: []string{"*"}, File: "a.toml", Line: 9},
		{RunAsUser: "nobody_here", Connections: []string{"ghost"}, File: "a.toml", Line: 12},
		{RunAsUser: "billing", Connections: []string{"billing_db"}, File: "b.toml", Line: 1},
	}
	users := policy.UserTable{"billing": 1200, "root": 0}
	p := policy.New(policy.Config{Rules: rules, Users: users})
	for _, c := range []struct {
		uid  uint32
		id   string
		want policy.Decision
	}{
		{
			1200, "billing_db",
			policy.Decision{
				Allowed: true, RunAsUser: "billing", DAG: "billing_*", Rule: "a.toml:3",
			},
		},
		{
			1200, "warehouse_/x",
			policy.Decision{
				Allowed: true, RunAsUser: "billing", DAG: "billing_*", Rule: "a.toml:3",
			},
		},
		{1200, "Billing_db", policy.Decision{Rule: "no grant of this uid names the id"}},
		{1200, "billing_db ", policy.Decision{Rule: "no grant of this uid names the id"}},
		{5001, "anything", policy.Decision{Allowed: true, RunAsUser: "#5001", Rule: "a.toml:9"}},
		{0, "billing_db", policy.Decision{Rule: "no grant for this uid"}},
		{65534, "ghost", policy.Decision{Rule: "no grant for this uid"}},
	} {
		if diff := cmp.Diff(c.want, p.Decide(c.uid, c.id)); diff != "" {
			t.Errorf("Decide(%d, %q) (-want +got):\n%s", c.uid, c.id, diff)
		}
	}
}

func TestEveryRuleThatNamesAConnectionCanDemandThatItIsSealed(t *testing.T) {
	rules := []policy.Rule{
		{UID: uid(1), Connections: []string{"*"}, File: "a.toml", Line: 1},
		{UID: uid(1), Connections: []string{"bill*"}, Sealed: true, File: "a.toml", Line: 2},
		{UID: uid(1), Connections: []string{"bill_x"}, File: "a.toml", Line: 3},
		{UID: uid(1), Connections: []string{"one"}, Sealed: true, File: "a.toml", Line: 4},
		{UID: uid(2), Connections: []string{"one", "bill*"}, File: "a.toml", Line: 5},
		{
			DAG: "d", Connections: []string{"of_dag"}, Sealed: true, File: "a.toml", Line: 6,
		},
	}
	cfg := policy.Config{
		Rules: rules, Facts: []policy.Fact{{DAG: "d", Users: []string{"#1", "#3"}}},
		Owner: uid(9),
	}
	const not = "it is not sealed, which is demanded by "
	for _, c := range []struct {
		uid          uint32
		id           string
		rule, sealed string
		plain        string // why a value is refused that is not sealed
	}{
		{1, "other", "a.toml:1", "", ""},
		{1, "bills", "a.toml:1", "a.toml:2", not + "a.toml:2"},
		{1, "bill_x", "a.toml:3", "a.toml:2", not + "a.toml:2"},
		{1, "one", "a.toml:4", "a.toml:4", not + "a.toml:4"},
		{1, "of_dag", "a.toml:6", "a.toml:6", not + "a.toml:6"},
		{2, "one", "a.toml:5", "", ""},
		{2, "bills", "a.toml:5", "", ""},
		{3, "of_dag", "a.toml:6", "a.toml:6", not + "a.toml:6"},
		{9, "one", "own mount", "", ""},
	} {
		cfg.SealedBy = nil
		d := policy.New(cfg).Decide(c.uid, c.id)
		if !d.Allowed || d.Rule != c.rule || d.Sealed != c.sealed || d.Refuses("") != c.plain ||
			d.Refuses("any") != "" {
			t.Errorf("uid %d, %s: %+v, refuses %q", c.uid, c.id, d, d.Refuses(""))
		}
		// A KMS demands it of everything, whoever reads.
		cfg.SealedBy = []string{"main", "old"}
		d = policy.New(cfg).Decide(c.uid, c.id)
		for kms, want := range map[string]string{
			"main": "", "old": "", "": not + "kms.main, kms.old",
			"other": `it is sealed by "other", and another KMS is demanded by kms.main, kms.old`,
		} {
			if got := d.Refuses(kms); got != want {
				t.Errorf("uid %d, %s, sealed by %q: %q, want %q", c.uid, c.id, kms, got, want)
			}
		}
	}
}

func TestNoRulesLetNobodyRead(t *testing.T) {
	p := policy.New(policy.Config{})
	for _, u := range []uint32{0, 1, 1000, 65534, 4294967295} {
		if p.Decide(u, "x").Allowed || p.ReadsAnything(u) {
			t.Errorf("uid %d may read", u)
		}
	}
}

func TestOwnMountIsForItsOwnerAlone(t *testing.T) {
	p := policy.New(policy.Config{Owner: uid(1000)})
	for _, c := range []struct {
		uid  uint32
		want bool
	}{{1000, true}, {0, false}, {1001, false}} {
		if got := p.Decide(c.uid, "x").Allowed; got != c.want {
			t.Errorf("uid %d: allowed = %v", c.uid, got)
		}
	}
}

func TestDerivedRulesGrantTheUsersOfTheirDAGs(t *testing.T) {
	cfg := policy.Config{
		Rules: []policy.Rule{
			{DAG: "billing_*", Connections: []string{"billing_db"}, File: "c.toml", Line: 1},
			{
				DAG: "*", Bundle: "trusted", DAGFile: "/dags/ops/*", Connections: []string{"ops_*"},
				File: "c.toml", Line: 5,
			},
			{Team: "red", Connections: []string{"red_db"}, File: "c.toml", Line: 9},
		},
		Users: policy.UserTable{"billing": 1200, "etl": 1300, "root": 0, "worker": 50},
		Facts: []policy.Fact{
			{DAG: "billing_daily", Users: []string{"#1400", "billing", "ghost", "root"}},
			{DAG: "billing_hourly", Users: []string{"billing"}, Unnamed: true},
			{DAG: "ops", File: "/dags/ops/x.py", Bundle: "trusted", Users: []string{"worker"}},
			{DAG: "ops2", File: "/dags/other/x.py", Bundle: "trusted", Users: []string{"billing"}},
			{DAG: "ops3", File: "/dags/ops/y.py", Users: []string{"billing"}},
			{DAG: "red", Team: "red", Users: []string{"#0", "etl"}},
		},
		DefaultUser: "etl",
		Never:       []uint32{0, 65534, 50},
	}
	granted, never := cfg.Grants()
	var got []string
	for _, g := range granted {
		uid := "null"
		if g.UID != nil {
			uid = strconv.Itoa(int(*g.UID))
		}
		got = append(got, strings.Join([]string{g.DAG, g.RunAsUser, uid, g.From, g.Rule}, " "))
	}
	want := []string{
		"billing_daily #1400 1400 serialized c.toml:1",
		"billing_daily billing 1200 serialized c.toml:1",
		"billing_daily ghost null serialized c.toml:1",
		"billing_hourly billing 1200 serialized c.toml:1",
		"billing_hourly etl 1300 default_impersonation c.toml:1",
		"red etl 1300 serialized c.toml:9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	if len(never) != 3 {
		t.Errorf("never granted: %v", never)
	}
	inConfig, inDAGs := cfg.Names()
	if inConfig != nil {
		t.Errorf("the configuration names %q", inConfig)
	}
	names := []string{"billing", "ghost", "etl", "root", "worker"}
	if diff := cmp.Diff(names, inDAGs); diff != "" {
		t.Errorf("names in DAGs (-want +got):\n%s", diff)
	}

	p := policy.New(cfg)
	for _, c := range []struct {
		uid  uint32
		id   string
		want policy.Decision
	}{
		{
			1200, "billing_db",
			policy.Decision{
				Allowed: true, RunAsUser: "billing", DAG: "billing_daily,billing_hourly",
				Rule: "c.toml:1",
			},
		},
		{
			1400, "billing_db",
			policy.Decision{
				Allowed: true, RunAsUser: "#1400", DAG: "billing_daily", Rule: "c.toml:1",
			},
		},
		{1200, "ops_db", policy.Decision{Rule: "no grant of this uid names the id"}},
		{50, "ops_db", policy.Decision{Rule: "no grant for this uid"}},
		{0, "billing_db", policy.Decision{Rule: "no grant for this uid"}},
	} {
		if diff := cmp.Diff(c.want, p.Decide(c.uid, c.id)); diff != "" {
			t.Errorf("Decide(%d, %q) (-want +got):\n%s", c.uid, c.id, diff)
		}
	}
}

func TestRulesAtOnePlaceStayApart(t *testing.T) {
	p := policy.New(policy.Config{Rules: []policy.Rule{
		{UID: uid(7), Connections: []string{"a"}},
		{UID: uid(7), Connections: []string{"b"}},
	}})
	for _, id := range []string{"a", "b"} {
		if !p.Decide(7, id).Allowed {
			t.Errorf("%s is refused", id)
		}
	}
}

func TestALabelNamesAFewDAGsAndCountsTheRest(t *testing.T) {
	cfg := policy.Config{Rules: []policy.Rule{{DAG: "*", Connections: []string{"x"}}}}
	for i := range 9 {
		cfg.Facts = append(cfg.Facts, policy.Fact{DAG: fmt.Sprint("d", i), Users: []string{"#7"}})
	}
	if got, want := policy.New(cfg).Decide(7, "x").DAG, "d0,d1,d2,d3,d4 and 4 more"; got != want {
		t.Errorf("label %q, want %q", got, want)
	}
}

func TestLiteralMatchesItsOwnTextAlone(t *testing.T) {
	for _, text := range []string{"a", "a*b", "[x]", "what?", "[", "]", "[!a]"} {
		p := policy.Literal(text)
		if !python.Fnmatch(p, text) {
			t.Errorf("%q does not match %q", p, text)
		}
		for _, other := range []string{text + "x", "x" + text, "aab", "x", "whatx"} {
			if python.Fnmatch(p, other) {
				t.Errorf("%q matches %q", p, other)
			}
		}
	}
}

func TestNamesOfTheConfigurationAreApartFromThoseOfDAGs(t *testing.T) {
	cfg := policy.Config{
		Rules: []policy.Rule{
			{DAG: "*", Connections: []string{"x"}},
			{RunAsUser: "billing", Connections: []string{"x"}},
			{UID: uid(7), Connections: []string{"x"}},
			{RunAsUser: "etl", Connections: []string{"x"}},
		},
		Facts: []policy.Fact{{DAG: "d", Users: []string{"#8", "billing", "other"}}},
	}
	inConfig, inDAGs := cfg.Names()
	if diff := cmp.Diff([]string{"billing", "etl"}, inConfig); diff != "" {
		t.Errorf("in the configuration (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"other"}, inDAGs); diff != "" {
		t.Errorf("in DAGs (-want +got):\n%s", diff)
	}
}

// Whoever writes DAGs with very many users takes no place of others.
func TestDAGsThatNameTooManyUsersInAllGrantNothing(t *testing.T) {
	users := func(prefix string, n int) []string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprint(prefix, i)
		}
		return names
	}
	cfg := policy.Config{
		Rules: []policy.Rule{{DAG: "in_*", Connections: []string{"x"}}},
		Facts: []policy.Fact{
			{DAG: "in_1", Users: users("a", policy.MaxUsers-2)},
			{DAG: "in_2", Users: users("b", policy.MaxUsers-1)},
			{DAG: "in_2", Users: users("c", policy.MaxUsers-1)},
			{DAG: "in_3", Users: []string{"billing", "etl"}},
			{DAG: "in_4", Users: users("a", policy.MaxUsers-2)}, // no more than in_1
			{DAG: "out", Users: []string{"other"}},
		},
	}
	before := len(cfg.Facts)
	facts := cfg.Facts
	if diff := cmp.Diff([]string{"in_2"}, cfg.Bound()); diff != "" {
		t.Errorf("over (-want +got):\n%s", diff)
	}
	var kept []string
	for _, f := range cfg.Facts {
		kept = append(kept, f.DAG)
	}
	if diff := cmp.Diff([]string{"in_1", "in_3", "in_4"}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if len(facts) != before || facts[5].DAG != "out" {
		t.Error("the facts of others changed")
	}
	if over := cfg.Bound(); over != nil {
		t.Errorf("once more: %q", over)
	}
}
