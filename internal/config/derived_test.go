package config_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/settings"
)

// withMetastore names a metastore whose DAGs can name users.
const withMetastore = "[metastore]\nurl = \"sqlite:////a.db\"\n"

// derived is a grant without a user.
const derived = "[[grant]]\ndag = \"billing_*\"\nteam = \"blue\"\nconnections = [\"x\"]\n"

// trustsMetastore is the warning of every configuration with a derived grant.
const trustsMetastore = "grants without run_as_user trust whoever can write the metastore, which " +
	"with Airflow 2 is every task"

func TestDerivedGrants(t *testing.T) {
	src := source(t, withMetastore+`dags_every = "10s"
dags_keep = "2h"
[[grant]]
dag = "billing_*"
dag_file = "/dags/billing/*"
bundle = "main"
team = "blue"
connections = ["a"]
[[grant]]
dag = "*"
connections = ["b"]
[[grant]]
run_as_user = "c"
dag = "label"
connections = ["c"]
`)
	got := load(t, src)
	want := []policy.Rule{
		{DAG: "billing_*", DAGFile: "/dags/billing/*", Bundle: "main", Team: "blue",
			Connections: []string{"a"}, File: src.ConfigFile, Line: 5},
		{DAG: "*", Connections: []string{"b"}, File: src.ConfigFile, Line: 11},
		{RunAsUser: "c", DAG: "label", Connections: []string{"c"}, File: src.ConfigFile, Line: 14},
	}
	if diff := cmp.Diff(want, got.Front.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	wantDAGs := &settings.DAGs{Every: 10 * time.Second, Keep: 2 * time.Hour,
		Never: []uint32{0, 1000, 65534, 4294967295}}
	if diff := cmp.Diff(wantDAGs, got.Front.DAGs); diff != "" {
		t.Errorf("DAGs (-want +got):\n%s", diff)
	}
	wantWarnings := []string{
		src.ConfigFile + `:11: this grant trusts every author who can name a DAG "*"; dag_file, bundle or team would narrow it`,
		trustsMetastore,
	}
	if diff := cmp.Diff(wantWarnings, got.Front.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestAnyNarrowingSparesTheWarningOfAuthors(t *testing.T) {
	for _, key := range []string{"dag_file", "bundle", "team"} {
		t.Run(key, func(t *testing.T) {
			src := source(t, withMetastore+"[[grant]]\ndag = \"d\"\nconnections = [\"x\"]\n"+key+
				" = \"y\"\n")
			if diff := cmp.Diff([]string{trustsMetastore}, load(t, src).Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// Where every grant names its user, DAGs are not read, and what they could never grant
// does not matter.
func TestGrantsThatNameUsersReadNoDAGs(t *testing.T) {
	src := source(t, withMetastore+"[[grant]]\nrun_as_user = \"a\"\ndag = \"d\"\nconnections = "+
		"[\"x\"]\n")
	src.Environ = append(src.Environ, "AIRFLOW__CORE__DEFAULT_IMPERSONATION=root")
	got := load(t, src)
	if got.Front.DAGs != nil || len(got.Warnings) > 0 {
		t.Errorf("DAGs %+v, warnings %q", got.Front.DAGs, got.Warnings)
	}
}

func TestDerivedGrantNeedsTheMetastore(t *testing.T) {
	const hint = " (name the run_as_user, or set metastore.url or airflow_home)\n"
	for name, tc := range map[string]struct{ toml, cfg, want string }{
		"Airflow has no metastore": {
			toml: derived + derived, cfg: "[core]\nexecutor = x\n",
			want: "CONFIG:1: grant: it names no run_as_user, and there is no metastore to take " +
				"one from: no database URL is set, and HOME/airflow.db is not there" + hint +
				"CONFIG:5: grant: it names no run_as_user, and there is no metastore to take one " +
				"from: no database URL is set, and HOME/airflow.db is not there" + hint,
		},
		"it is not read": {
			toml: derived, cfg: "[database]\nsql_alchemy_conn = mssql://h/db\n",
			want: "HOME/airflow.cfg:2: [database] sql_alchemy_conn: this is not the URL of a " +
				"PostgreSQL, MySQL, MariaDB or SQLite database " +
				"(postgresql://user:password@host/database)\n",
		},
		"Airflow has a metastore": {toml: derived, cfg: "[database]\nsql_alchemy_conn = sqlite:////a.db\n"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.toml)
			src.AirflowHome = airflowHome(t, tc.cfg)
			if tc.want == "" {
				if load(t, src).Front.DAGs == nil {
					t.Error("no DAGs are read")
				}
				return
			}
			here := strings.NewReplacer("HOME", src.AirflowHome, "CONFIG", src.ConfigFile)
			if diff := cmp.Diff(here.Replace(tc.want), loadError(t, src)+"\n"); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDerivedGrantOfAnIncludedFileIsNamed(t *testing.T) {
	src := source(t, "include = [\"a.toml\"]\n"+withMetastore+"dags = false\n")
	path := filepath.Join(filepath.Dir(src.ConfigFile), "a.toml")
	write(t, path, "\n"+derived, 0o644)
	want := fmt.Sprintf("%s:2: grant: it names no run_as_user, and metastore.dags = false (%s:4) "+
		"takes none from the DAGs (name the run_as_user, or set metastore.dags = true)", path,
		src.ConfigFile)
	if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestDefaultImpersonation(t *testing.T) {
	for name, tc := range map[string]struct{ set, user, ignored string }{
		"a name":              {"billing", "billing", ""},
		"digits are a name":   {"1234", "1234", ""},
		"a uid":               {"#1234", "#1234", ""},
		"a uid with zeros":    {"#01234", "#1234", ""},
		"empty":               {"", "", ""},
		"root":                {"root", "", "uid 0 is not granted implicitly"},
		"uid 0":               {"#0", "", "uid 0 is not granted implicitly"},
		"nobody":              {"#65534", "", "uid 65534 is not granted implicitly"},
		"no uid":              {"#-1", "", "not a uid"},
		"a uid of 33 bits":    {"#4294967296", "", "not a uid"},
		"a switch":            {"-u", "", "not a user name"},
		"blanks at the end":   {"billing ", "", "not a user name"},
		"a line end, forging": {"a\nb", "", "not a user name"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, withMetastore+derived)
			src.Environ = append(src.Environ, "AIRFLOW__CORE__DEFAULT_IMPERSONATION="+tc.set)
			got := load(t, src)
			if got.Front.DAGs.DefaultUser != tc.user {
				t.Errorf("the default user is %q, want %q", got.Front.DAGs.DefaultUser, tc.user)
			}
			want := []string{trustsMetastore}
			if tc.ignored != "" {
				want = append(want, "[core] default_impersonation (variable "+
					"AIRFLOW__CORE__DEFAULT_IMPERSONATION) is ignored: "+tc.ignored)
			}
			if diff := cmp.Diff(want, got.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultImpersonationFromTheFile(t *testing.T) {
	src := source(t, derived)
	src.AirflowHome = airflowHome(t, "[core]\ndefault_impersonation = billing\n[database]\n"+
		"sql_alchemy_conn = sqlite:////a.db\n")
	if got := load(t, src).Front.DAGs.DefaultUser; got != "billing" {
		t.Errorf("the default user is %q", got)
	}
}

func TestUIDsThatNoDAGCanGrant(t *testing.T) {
	for name, tc := range map[string]struct {
		euid  int
		owner uint32 // of airflow_home
		user  string
		home  bool
		want  []uint32
	}{
		"an ordinary user's own": {1000, 1000, "", true,
			[]uint32{0, 1000, 65534, 4294967295}},
		"another's home": {1000, 50000, "", true,
			[]uint32{0, 1000, 50000, 65534, 4294967295}},
		"no home": {1000, 50000, "", false,
			[]uint32{0, 1000, 65534, 4294967295}},
		"root, child owns the home": {0, 50000, "airflow", true,
			[]uint32{0, 50000, 65534, 4294967295}},
		"root, child is another": {0, 61234, "airflow", true,
			[]uint32{0, 50000, 61234, 65534, 4294967295}},
		"root, child without a home": {0, 0, "airflow", false,
			[]uint32{0, 50000, 65534, 4294967295}},
		"root, with a child as itself": {0, 0, "root", true, []uint32{0, 65534, 4294967295}},
		"the user is ignored": {1000, 0, "airflow", true,
			[]uint32{0, 1000, 65534, 4294967295}},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "user = \""+tc.user+"\"\nairflow_home_settings = []\n"+withMetastore+
				derived)
			src.EUID = tc.euid
			src.Drop = func(config.Identity) error { return nil }
			if tc.home {
				src.AirflowHome = airflowHome(t, "[core]\n")
				src.SetOwner(belongTo(tc.owner, src.AirflowHome))
			}
			if diff := cmp.Diff(tc.want, load(t, src).Front.DAGs.Never); diff != "" {
				t.Errorf("uids (-want +got):\n%s", diff)
			}
		})
	}
}
