package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/settings"
)

// belongTo says that what lies in a directory, and the directory, belong to uid, and all else to
// root.
func belongTo(uid uint32, dir string) func(path string) uint32 {
	return func(path string) uint32 {
		if strings.HasPrefix(path+"/", dir+"/") {
			return uid
		}
		return 0
	}
}

func TestChildrenOfRootRunAsTheUserOfTheirConfiguration(t *testing.T) {
	for name, tc := range map[string]struct {
		owner uint32 // of airflow_home
		toml  string
		want  *settings.Child
		drop  config.Identity
	}{
		"user": {0, "user = \"airflow\"\n", &settings.Child{UID: 50000, GID: 50000,
			Groups: []uint32{4, 50000}, Why: "user = airflow"},
			config.Identity{UID: 50000, GID: 50000, Groups: []uint32{4, 50000}}},
		"user's home": {50000, "user = \"airflow\"\n", &settings.Child{UID: 50000, GID: 50000,
			Groups: []uint32{4, 50000}, Why: "user = airflow"},
			config.Identity{UID: 50000, GID: 50000, Groups: []uint32{4, 50000}}},
		"user's uid": {50000, "user = 50000\n", &settings.Child{UID: 50000, GID: 50000,
			Groups: []uint32{4, 50000}, Why: "user = #50000"},
			config.Identity{UID: 50000, GID: 50000, Groups: []uint32{4, 50000}}},
		"a uid without an account": {61234, "user = \"#61234\"\n", &settings.Child{UID: 61234,
			GID: 65534, Groups: []uint32{65534}, Why: "user = #61234"},
			config.Identity{UID: 61234, GID: 65534, Groups: []uint32{65534}}},
		"root":         {0, "", nil, config.Identity{}},
		"root by name": {0, "user = \"root\"\n", nil, config.Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.toml)
			src.EUID = 0
			src.AirflowHome = airflowHome(t, "[database]\nsql_alchemy_conn = "+
				"sqlite:////before.db\n")
			cfg := filepath.Join(src.AirflowHome, "airflow.cfg")
			src.SetOwner(belongTo(tc.owner, src.AirflowHome))
			var dropped []config.Identity
			src.Drop = func(id config.Identity) error {
				dropped = append(dropped, id)
				// Nothing under airflow_home has been read yet.
				write(t, cfg, "[database]\nsql_alchemy_conn = sqlite:////after.db\n", 0o600)
				return nil
			}
			got := load(t, src)
			if diff := cmp.Diff(tc.want, got.Front.Child); diff != "" {
				t.Errorf("child (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]config.Identity{tc.drop}, dropped); diff != "" {
				t.Errorf("dropped to (-want +got):\n%s", diff)
			}
			if url := got.Resolver.Metastore.URL; url != "sqlite:////after.db" {
				t.Errorf("airflow.cfg was read before the rights were given up: %s", url)
			}
			if warned := strings.Contains(strings.Join(got.Warnings, "\n"),
				"resolver children run as root"); warned != (tc.want == nil) {
				t.Errorf("warnings: %q", got.Warnings)
			}
		})
	}
}

// A directory of somebody else's must not decide as whom the children run.
func TestRootAsksForAUserWhereAirflowHomeIsNotItsOwn(t *testing.T) {
	src := source(t, "ttl = \"1s\"\n")
	src.EUID = 0
	src.Drop = func(config.Identity) error { return errors.New("nothing may be read any more") }
	src.AirflowHome = airflowHome(t, "")
	above := filepath.Dir(src.AirflowHome)
	for name, tc := range map[string]struct{ owned, want string }{
		"its own":             {src.AirflowHome, src.AirflowHome},
		"in another's":        {above, above},
		"beside a link to it": {filepath.Join(above, "link"), filepath.Join(above, "link")},
	} {
		t.Run(name, func(t *testing.T) {
			src := src
			if name == "beside a link to it" {
				link := filepath.Join(above, "link")
				if err := os.Symlink("airflow", link); err != nil {
					t.Fatal(err)
				}
				src.AirflowHome = link
			}
			src.SetOwner(belongTo(50000, tc.owned))
			want := src.ConfigFile + ": user: it is not set, and airflow_home is not root's own: " +
				tc.want + ": it belongs to uid 50000 " +
				"(set user = \"NAME\", the account that resolver children run as)"
			if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAirflowIsObeyedAsFarAsItsWriterCouldAct(t *testing.T) {
	const whose = "it, and every directory above it, must belong to root or uid 50000"
	for name, tc := range map[string]struct {
		euid    int
		owner   uint32 // of airflow_home
		mode    os.FileMode
		dirMode os.FileMode
		want    string // of the message; HOME stands for airflow_home
		hint    string
	}{
		"root's":                {0, 0, 0o644, 0o755, "", ""},
		"the children's own":    {0, 50000, 0o600, 0o700, "", ""},
		"another user's":        {0, 61234, 0o600, 0o700, "HOME: it belongs to uid 61234", whose},
		"writable to a group":   {0, 50000, 0o664, 0o755, "its group can write to it", "FILE"},
		"writable to all":       {0, 0, 0o646, 0o755, "others can write to it", "FILE"},
		"in a shared directory": {0, 0, 0o600, 0o777, "HOME: others can write to it", "HOME"},
		"in a sticky one":       {0, 0, 0o600, 0o777 | os.ModeSticky, "", ""},
		"in a group's directory": {0, 50000, 0o600, 0o775, "HOME: its group can write to it",
			"HOME"},
		"an ordinary user's own": {50000, 50000, 0o600, 0o700, "", ""},
		"root's, for a user":     {50000, 0, 0o644, 0o755, "", ""},
		"another's, for a user": {50000, 61234, 0o644, 0o755, "HOME: it belongs to uid 61234",
			whose},
		"for a user, for all too": {50000, 50000, 0o646, 0o755, "others can write to it", "FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			ran := filepath.Join(t.TempDir(), "ran")
			src := source(t, "user = \"airflow\"\n")
			src.EUID = tc.euid
			src.AirflowHome = airflowHome(t, "[core]\nfernet_key_cmd = touch "+ran+
				"\n[database]\nsql_alchemy_conn = sqlite:////a.db\n")
			cfg := filepath.Join(src.AirflowHome, "airflow.cfg")
			src.SetOwner(belongTo(tc.owner, src.AirflowHome))
			if err := errors.Join(os.Chmod(cfg, tc.mode),
				os.Chmod(src.AirflowHome, tc.dirMode)); err != nil {
				t.Fatal(err)
			}
			if tc.want == "" {
				load(t, src)
				return
			}
			hint := tc.hint
			if hint != whose {
				hint = "run: chmod go-w " + strings.NewReplacer("FILE", cfg,
					"HOME", src.AirflowHome).Replace(hint)
			}
			want := cfg + ": somebody else could change it: " +
				strings.ReplaceAll(tc.want, "HOME", src.AirflowHome) +
				", and it says where connfs logs in (" + hint + "; or set what is needed in " +
				"config.toml, and airflow_home_settings = [])"
			if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(ran); !errors.Is(err, fs.ErrNotExist) {
				t.Error("its command ran")
			}
		})
	}
}

func TestOnlyTheNamedSettingsOfAnAirflowHomeCount(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	src := source(t, "user = \"airflow\"\nairflow_home_settings = [\"default_impersonation\"]\n"+
		withMetastore+derived)
	src.EUID = 0
	src.Drop = func(config.Identity) error { return nil }
	src.AirflowHome = airflowHome(t, "[core]\ndefault_impersonation = billing\nmulti_team = True\n"+
		"fernet_key_cmd = touch "+ran+"\n[database]\nsql_alchemy_schema = theirs\n"+
		"[secrets]\nbackend = airflow.providers.hashicorp.secrets.vault.VaultBackend\n"+
		"backend_kwargs = {\"url\": \"http://theirs\", \"token\": \"t\"}\n")
	src.SetOwner(belongTo(61234, src.AirflowHome))
	got := load(t, src)
	if got.Front.DAGs.DefaultUser != "billing" {
		t.Errorf("the default user is %q", got.Front.DAGs.DefaultUser)
	}
	if got.Resolver.Secrets != nil || got.Resolver.Metastore.Schema != "" ||
		got.Resolver.Metastore.FernetKey != "" {
		t.Errorf("more was taken: %+v, %+v", got.Resolver.Secrets, got.Resolver.Metastore)
	}
	if _, err := os.Stat(ran); !errors.Is(err, fs.ErrNotExist) {
		t.Error("its command ran")
	}
	// Airflow's default database lies there, too.
	write(t, filepath.Join(src.AirflowHome, "airflow.db"), "", 0o600)
	write(t, src.ConfigFile, "user = \"airflow\"\nairflow_home_settings = []\n", 0o600)
	if got := load(t, src); got.Resolver.Metastore != nil {
		t.Errorf("its database counts: %+v", got.Resolver.Metastore)
	}
}

// What root knows does not go where a file says that somebody else could have written, though
// that is the user of the children.
func TestLoginsOfRootStayAwayFromTheFilesOfOthers(t *testing.T) {
	const vault = "[secrets]\nbackend = airflow.providers.hashicorp.secrets.vault.VaultBackend\n"
	kwargs := func(url string) string {
		return vault + "backend_kwargs = {\"url\": \"" + url + "\", \"token\": \"theirs\"}\n"
	}
	for name, tc := range map[string]struct {
		owner    uint32
		cfg      string
		environ  []string
		withheld []string
		want     string // of the error
	}{
		"root's file": {0, kwargs("http://v"), []string{"VAULT_TOKEN=t"}, nil, ""},
		"a backend": {50000, kwargs("http://v"),
			[]string{"VAULT_TOKEN=t", "AWS_SECRET_ACCESS_KEY=k", "PGPASSWORD=p"},
			[]string{"AWS_SECRET_ACCESS_KEY", "VAULT_TOKEN"}, ""},
		"a database": {50000, "[database]\nsql_alchemy_conn = postgresql://u@theirs/a\n",
			[]string{"VAULT_TOKEN=t", "PGPASSWORD=p"}, []string{"PGPASSWORD"}, ""},
		"nothing of the kind": {50000, "[core]\nfernet_key = x\n",
			[]string{"VAULT_TOKEN=t", "PGPASSWORD=p"}, nil, ""},
		"a variable in a URL": {50000, kwargs("http://theirs/$VAULT_TOKEN"),
			[]string{"VAULT_TOKEN=t"}, nil, "it names a variable of connfs's environment"},
		"a variable in root's file": {0, kwargs("http://mine/$VAULT_TOKEN"),
			[]string{"VAULT_TOKEN=t"}, nil, ""},
		"AIRFLOW_HOME": {50000, "[database]\nsql_alchemy_conn = sqlite:///$AIRFLOW_HOME/a.db\n",
			nil, nil, ""},
		"a token of root's for their address": {50000, kwargs("http://theirs"),
			[]string{"AIRFLOW__SECRETS__BACKEND_KWARG__TOKEN=root's"}, nil,
			"part of the backend stands there and part in the variable " +
				"AIRFLOW__SECRETS__BACKEND_KWARG__TOKEN"},
		"arguments of root's for their backend": {50000, vault,
			[]string{`AIRFLOW__SECRETS__BACKEND_KWARGS={"token": "root's"}`}, nil,
			"part of the backend stands there and part in the variable"},
		"a backend of root's": {50000, kwargs("http://theirs"),
			[]string{"AIRFLOW__SECRETS__BACKEND=" + strings.TrimSpace(vault[20:]),
				`AIRFLOW__SECRETS__BACKEND_KWARGS={"token": "root's"}`, "VAULT_TOKEN=t"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "user = \"airflow\"\n")
			src.EUID = 0
			src.Drop = func(config.Identity) error { return nil }
			var withheld []string
			src.Withhold = func(names []string) { withheld = append(withheld, names...) }
			src.Environ = append(src.Environ, tc.environ...)
			src.AirflowHome = airflowHome(t, tc.cfg)
			src.SetOwner(belongTo(tc.owner, src.AirflowHome))
			if tc.want != "" {
				if got := loadError(t, src); !strings.Contains(got, tc.want) {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				return
			}
			got := load(t, src)
			if diff := cmp.Diff(tc.withheld, withheld); diff != "" {
				t.Errorf("withheld (-want +got):\n%s", diff)
			}
			for _, v := range got.Resolver.Login {
				if slices.Contains(tc.withheld, v.Name) {
					t.Errorf("the children get %s", v.Name)
				}
			}
			if warned := strings.Contains(strings.Join(got.Warnings, "\n"), "do not get"); warned !=
				(tc.withheld != nil) {
				t.Errorf("warnings: %q", got.Warnings)
			}
		})
	}
}

// A command of such a file gets nothing of root's environment, either.
func TestCommandOfAnothersFileGetsLittle(t *testing.T) {
	src := source(t, "user = \"airflow\"\n")
	src.EUID = 0
	src.Environ = append(src.Environ, "AIRFLOW__CORE__SECRET=root's", "AIRFLOW_CONN_X=http://x")
	src.AirflowHome = airflowHome(t, "[database]\nsql_alchemy_conn_cmd = sh -c 'echo "+
		"sqlite:////$AIRFLOW__CORE__SECRET$AIRFLOW_CONN_X/a'\n")
	for uid, want := range map[uint32]string{
		0: "sqlite:////root'shttp://x/a", 50000: "sqlite://///a",
	} {
		src.SetOwner(belongTo(uid, src.AirflowHome))
		if got := load(t, src).Resolver.Metastore.URL; got != want {
			t.Errorf("of uid %d: %s, want %s", uid, got, want)
		}
	}
}

func TestRootReadsNoConfigurationOfOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		owner uint32
		mode  os.FileMode
		want  string
	}{
		"root's": {0, 0o600, ""},
		"writable to a group": {0, 0o660, "its group can write to it, and it says what connfs " +
			"does (run: chmod go-w FILE)"},
		"another user's": {1000, 0o600, "it belongs to uid 1000, and it says what connfs does " +
			"(it, and every directory above it, must belong to root)"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "ttl = \"1s\"\n")
			src.EUID = 0
			src.SetOwner(belongTo(tc.owner, src.ConfigFile))
			if err := os.Chmod(src.ConfigFile, tc.mode); err != nil {
				t.Fatal(err)
			}
			if tc.want == "" {
				load(t, src)
				return
			}
			want := src.ConfigFile + ": somebody else could change it: " +
				strings.ReplaceAll(tc.want, "FILE", src.ConfigFile)
			if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

// A file that config.toml names may be the children's own, who can do with it what they like
// anyway.
func TestNamedFilesBelongToRootOrTheChildren(t *testing.T) {
	for uid, want := range map[uint32]bool{0: true, 50000: true, 61234: false} {
		src := source(t, "user = \"airflow\"\n[metastore]\nurl_file = \"url\"\n")
		src.EUID = 0
		path := filepath.Join(filepath.Dir(src.ConfigFile), "url")
		write(t, path, "sqlite:////a.db", 0o600)
		src.SetOwner(belongTo(uid, path))
		if want {
			load(t, src)
			continue
		}
		want := src.ConfigFile + ":3: metastore.url_file: " + path + ": somebody else could " +
			"change it: it belongs to uid 61234 (it, and every directory above it, must " +
			"belong to root or uid 50000)"
		if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
	}
}
