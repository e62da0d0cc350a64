package config_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/internal/users"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/environment"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // what a group can write to, connfs does not obey
	os.Exit(m.Run())
}

// accounts are the users of the machine that tests pretend to run on.
var accounts = map[string]users.User{
	"root": {Name: "root", Home: "/root"},
	"airflow": {Name: "airflow", UID: 50000, GID: 50000, Groups: []uint32{4, 50000},
		Home: "/home/airflow"},
}

// source returns a source on that machine: an ordinary user with a configuration
// file of the given text ("": none) and nothing in the environment but HOME. Every file is root's.
func source(t *testing.T, text string) config.Source {
	t.Helper()
	src := config.Source{
		EUID:    1000,
		Environ: []string{"HOME=/home/dev", "PATH=" + os.Getenv("PATH")},
		LookupUser: func(_ context.Context, name string) (users.User, error) {
			if u, ok := accounts[name]; ok {
				return u, nil
			}
			return users.User{}, fmt.Errorf("user %q: %w", name, users.ErrUnknown)
		},
		LookupUID: func(_ context.Context, uid uint32) (users.User, error) {
			for _, u := range accounts {
				if u.UID == uid {
					return u, nil
				}
			}
			return users.User{}, fmt.Errorf("user #%d: %w", uid, users.ErrUnknown)
		},
	}
	src.SetOwner(func(string) uint32 { return 0 })
	if text != "" {
		src.ConfigFile = filepath.Join(t.TempDir(), "config.toml")
		src.ConfigExplicit = true
		write(t, src.ConfigFile, text, 0o600)
	}
	return src
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func load(t *testing.T, src config.Source) *config.Result {
	t.Helper()
	got, err := config.Load(context.Background(), src)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// airflowHome makes an Airflow's home with an airflow.cfg of the given text.
func airflowHome(t *testing.T, cfg string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "airflow")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "airflow.cfg"), cfg, 0o600)
	return home
}

func TestNothingConfiguredServesTheUserAlone(t *testing.T) {
	src := source(t, "")
	src.Mountpoint, src.NeedMount = "/home/dev/conn", true
	src.ConfigFile = filepath.Join(t.TempDir(), "none.toml")
	src.Environ = append(src.Environ, "AIRFLOW_CONN_A_B=postgres://h", "OTHER=1",
		"AWS_SECRET_ACCESS_KEY=k", "AWSX=1")
	got := load(t, src)
	uid := uint32(1000)
	want := settings.Front{
		Mounts:    []settings.Mount{{Path: "/home/dev/conn"}},
		OwnerOnly: &uid,
		TTL:       5 * time.Second, NegativeTTL: time.Second, Epoch: 5 * time.Second,
		Timeout:    5 * time.Second,
		MemoryLock: "require",
		Audit:      settings.Audit{File: "-", Default: true},
		Path: []string{
			"alternative backend: not searched: [secrets] backend is not set",
			"environment: searched first, always in the path; 1 AIRFLOW_CONN_* variables were " +
				"there at the start",
			"metastore: not searched: no database URL is set",
		},
		Warnings: []string{"there is no configuration file: uid 1000, and nobody else, may read " +
			"every connection"},
	}
	if diff := cmp.Diff(want, got.Front); diff != "" {
		t.Errorf("front (-want +got):\n%s", diff)
	}
	wantResolver := all.Settings{
		Order: "aip-33", OnError: "stop",
		Environment: environment.Settings{
			Variables: environment.Variables([]string{"AIRFLOW_CONN_A_B=postgres://h"}),
		},
		Login: backend.Masked([]string{"AWS_SECRET_ACCESS_KEY=k"},
			func(string) bool { return true }),
	}
	plain := cmp.Transformer("plain",
		func(v backend.Variable) string { return v.Name + "=" + v.Value() })
	if diff := cmp.Diff(wantResolver, got.Resolver, plain); diff != "" {
		t.Errorf("resolver (-want +got):\n%s", diff)
	}
}

func TestServiceWithoutGrantsServesNobody(t *testing.T) {
	for name, change := range map[string]func(*config.Source){
		"a service": func(s *config.Source) { s.Service = true },
		"a service with a configuration file": func(s *config.Source) {
			*s = source(t, "ttl = \"1s\"\n")
			s.Service = true
		},
		"root": func(s *config.Source) { s.EUID = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "")
			change(&src)
			got := load(t, src)
			if got.Front.OwnerOnly != nil {
				t.Errorf("uid %d may read everything", *got.Front.OwnerOnly)
			}
			if !strings.Contains(strings.Join(got.Warnings, "\n"), "nobody may read anything") {
				t.Errorf("no warning says that nobody may read: %q", got.Warnings)
			}
		})
	}
}

func TestOrdinaryUsersGrantsDecideWhoReachesTheMount(t *testing.T) {
	const grant = "[[grant]]\nconnections = [\"x\"]\n"
	accounts["dev"] = users.User{Name: "dev", UID: 1000}
	for name, c := range map[string]struct {
		text       string
		euid       int
		everything bool // one's own, without a grant
		others     bool
	}{
		"no grant":          {"ttl = \"1s\"\n", 1000, true, false},
		"one's own uid":     {grant + "run_as_user = 1000\n", 1000, false, false},
		"one's own by text": {grant + "run_as_user = \"#1000\"\n", 1000, false, false},
		"one's own name":    {grant + "run_as_user = \"dev\"\n", 1000, false, false},
		"another uid":       {grant + "run_as_user = 1001\n", 1000, false, true},
		"another user":      {grant + "run_as_user = \"airflow\"\n", 1000, false, true},
		"an unknown user":   {grant + "run_as_user = \"who\"\n", 1000, false, true},
		"one of two": {
			grant + "run_as_user = 1000\n" + grant + "run_as_user = 7\n", 1000, false, true,
		},
		"root, for root":     {grant + "run_as_user = 0\n", 0, false, true},
		"root without grant": {"ttl = \"1s\"\n", 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, c.text)
			src.EUID = c.euid
			got := load(t, src).Front
			if (got.OwnerOnly != nil) != c.everything || got.Others != c.others {
				t.Errorf("may read everything: %v, others reach it: %v", got.OwnerOnly, got.Others)
			}
		})
	}
}

func TestFindFile(t *testing.T) {
	home := t.TempDir()
	other := filepath.Join(home, "other")
	for _, dir := range []string{filepath.Join(home, ".config"), other} {
		if err := os.MkdirAll(filepath.Join(dir, "connfs"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "connfs", "config.toml"), "", 0o600)
	}
	own, xdg := home+"/.config/connfs/config.toml", other+"/connfs/config.toml"
	for name, c := range map[string]struct {
		euid      int
		home, xdg string
		want      string
		found     bool
	}{
		"one's own":            {1000, home, "", own, true},
		"in XDG_CONFIG_HOME":   {1000, home, other, xdg, true},
		"XDG is not absolute":  {1000, home, "other", own, true},
		"none in XDG":          {1000, home, home + "/none", config.DefaultFile, false},
		"none at home":         {1000, other, "", config.DefaultFile, false},
		"no home":              {1000, "", "", config.DefaultFile, false},
		"root, with a home":    {0, home, other, config.DefaultFile, false},
		"a file for directory": {1000, home, own, config.DefaultFile, false},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"HOME": c.home, "XDG_CONFIG_HOME": c.xdg}
			got, found := config.FindFile(c.euid, func(name string) string { return env[name] })
			if got != c.want || found != c.found {
				t.Errorf("%s, %v; want %s, %v", got, found, c.want, c.found)
			}
		})
	}
}

func TestMountThatCouldNeverShowAConnectionIsRefused(t *testing.T) {
	empty, db := t.TempDir(), t.TempDir()
	write(t, filepath.Join(db, "airflow.db"), "", 0o600)
	const variable = "AIRFLOW_CONN_A=http://h"
	notHome := "--airflow-home: EMPTY is not an Airflow home: it holds no airflow.cfg and no " +
		"airflow.db (name the directory that Airflow calls AIRFLOW_HOME)"
	nowhere := "there is nowhere to look for connections: "
	variables := func(entries ...string) func(*config.Source) {
		return func(s *config.Source) { s.Environ = append(s.Environ, entries...) }
	}
	home := func(path string, changes ...func(*config.Source)) func(*config.Source) {
		return func(s *config.Source) {
			s.AirflowHome = path
			for _, change := range changes {
				change(s)
			}
		}
	}
	file := func(text string, changes ...func(*config.Source)) func(*config.Source) {
		return home("", append(changes, func(s *config.Source) {
			write(t, s.ConfigFile, text, 0o600)
		})...)
	}
	unmounted := func(s *config.Source) { s.NeedMount = false }
	key := fmt.Sprintf("airflow_home = %q\n", empty)
	const url = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:////x.db"
	for name, c := range map[string]struct {
		change func(*config.Source)
		want   string // how the message begins; empty: none
	}{
		"nothing":            {home(""), nowhere + "no database URL is set, there is no"},
		"without a mount":    {unmounted, ""},
		"only a variable":    {variables(variable), ""},
		"a home":             {home(db), ""},
		"a wrong home":       {home(empty), notHome},
		"and no mount":       {home(empty, unmounted), notHome},
		"and a variable":     {home(empty, variables(variable)), notHome},
		"and a URL":          {home(empty, variables(url)), ""},
		"a new home":         {home(airflowHome(t, "")), nowhere + "no database URL is set"},
		"a file":             {file("[environment]\nfile = \"/x\"\n"), ""},
		"a key, and no home": {file(key), nowhere},
		"and a variable too": {file(key, variables(variable)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "# nothing\n")
			src.Mountpoint, src.NeedMount = "/conn", true
			c.change(&src)
			if c.want == "" {
				load(t, src)
				return
			}
			want := strings.ReplaceAll(c.want, "EMPTY", empty)
			if got := loadError(t, src); !strings.HasPrefix(got, want) {
				t.Errorf("%s\nwant %s", got, want)
			}
		})
	}
}

func TestGrantsKeepTheirPlace(t *testing.T) {
	src := source(t, `
[[grant]]
dag         = "billing_*"
run_as_user = "billing"
connections = ["billing_db", "warehouse_*"]

[[grant]]
run_as_user = 1234
connections = ["a[b", "billing_db"]

[[grant]]
run_as_user = "#0"
connections = ["x"]
[[grant]]
run_as_user = "1234"
connections = ["*"]
`)
	got := load(t, src)
	uid, root := uint32(1234), uint32(0)
	want := []policy.Rule{
		{RunAsUser: "billing", DAG: "billing_*", File: src.ConfigFile, Line: 2,
			Connections: []string{"billing_db", "warehouse_*"}},
		{UID: &uid, Connections: []string{"a[b", "billing_db"}, File: src.ConfigFile, Line: 7},
		{UID: &root, Connections: []string{"x"}, File: src.ConfigFile, Line: 11},
		{RunAsUser: "1234", Connections: []string{"*"}, File: src.ConfigFile, Line: 14},
	}
	if diff := cmp.Diff(want, got.Front.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	spellings := got.Resolver.Environment.Spellings
	if diff := cmp.Diff([]string{"billing_db", "x"}, spellings); diff != "" {
		t.Errorf("spellings (-want +got):\n%s", diff)
	}
}
