package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/resolve/metastore"
)

func TestMetastoreFromAirflow(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  string
		toml string
		env  []string
		db   bool // the default database is there
		want *metastore.Settings
		why  string
	}{
		"its file": {
			cfg: "[database]\nsql_alchemy_conn = postgresql+psycopg2://u@h/db\n" +
				"sql_alchemy_schema = af\n[core]\nfernet_key = k1,k2\n",
			want: &metastore.Settings{URL: "postgresql+psycopg2://u@h/db", Schema: "af",
				FernetKey: "k1,k2"},
			why: "metastore: searched: PostgreSQL, its URL is from HOME/airflow.cfg:2",
		},
		"the old name": {
			cfg:  "[core]\nsql_alchemy_conn = sqlite:///$AIRFLOW_HOME/old.db\n",
			want: &metastore.Settings{URL: "sqlite:///HOME/old.db"},
			why:  "metastore: searched: SQLite, its URL is from HOME/airflow.cfg:2",
		},
		"a variable": {
			cfg: "[database]\nsql_alchemy_conn = sqlite:////file.db\n",
			env: []string{"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=mysql+mysqldb://u@h/db",
				"AIRFLOW__CORE__FERNET_KEY=k"},
			want: &metastore.Settings{URL: "mysql+mysqldb://u@h/db", FernetKey: "k"},
			why: "metastore: searched: MySQL, its URL is from variable " +
				"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
		},
		"a command": {
			cfg:  "[database]\nsql_alchemy_conn_cmd = echo sqlite:////cmd.db\n",
			want: &metastore.Settings{URL: "sqlite:////cmd.db"},
			why:  "metastore: searched: SQLite, its URL is from command of HOME/airflow.cfg:2",
		},
		"the default, which is there": {
			cfg: "[core]\n", db: true,
			want: &metastore.Settings{URL: "sqlite:///HOME/airflow.db"},
			why:  "metastore: searched: SQLite, Airflow's default database HOME/airflow.db",
		},
		"the default, which is not there": {
			cfg: "[core]\nfernet_key = k\n",
			why: "metastore: not searched: no database URL is set, " +
				"and HOME/airflow.db is not there",
		},
		"config.toml wins": {
			cfg: "[database]\nsql_alchemy_conn_cmd = no-such-program\nsql_alchemy_schema = af\n" +
				"[core]\nfernet_key = airflow\n",
			toml: "[metastore]\nurl = \"sqlite:////ours.db\"\nfernet_key = \"ours\"\n",
			want: &metastore.Settings{URL: "sqlite:////ours.db", Schema: "af", FernetKey: "ours"},
			why:  "metastore: searched: SQLite, its URL is from CONFIG:2",
		},
		"an empty variable disables encryption": {
			cfg:  "[database]\nsql_alchemy_conn = sqlite:////a.db\n[core]\nfernet_key = k\n",
			env:  []string{"AIRFLOW__CORE__FERNET_KEY="},
			want: &metastore.Settings{URL: "sqlite:////a.db"},
			why:  "metastore: searched: SQLite, its URL is from HOME/airflow.cfg:2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.toml)
			src.AirflowHome = airflowHome(t, tc.cfg)
			src.Environ = append(src.Environ, tc.env...)
			if tc.db {
				write(t, filepath.Join(src.AirflowHome, "airflow.db"), "", 0o600)
			}
			here := strings.NewReplacer("HOME", src.AirflowHome, "CONFIG", src.ConfigFile).Replace
			if tc.want != nil {
				tc.want.URL = here(tc.want.URL)
			}
			got := load(t, src)
			if diff := cmp.Diff(tc.want, got.Resolver.Metastore); diff != "" {
				t.Errorf("metastore (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(here(tc.why), got.Front.Path[2]); diff != "" {
				t.Errorf("path (-want +got):\n%s", diff)
			}
		})
	}
}

// What is meant to name the database and names nothing must not drop the metastore without a
// word: ids that are there would read as absent.
func TestADatabaseURLThatIsSetAndEmptyIsAnError(t *testing.T) {
	const unset = " (unset it where there is no metastore)"
	const nothing = "it gives no database URL (Airflow would use its default database, " +
		"HOME/airflow.db, then; remove the option where that is meant, or where there is no " +
		"metastore)"
	for name, tc := range map[string]struct{ cfg, env, want string }{
		"a variable": {
			"[database]\nsql_alchemy_conn = sqlite:////a.db\n",
			"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=",
			"[database] sql_alchemy_conn: variable AIRFLOW__DATABASE__SQL_ALCHEMY_CONN: the " +
				"database URL is set, and empty" + unset,
		},
		"a variable of the old name": {
			"", "AIRFLOW__CORE__SQL_ALCHEMY_CONN= ",
			"[database] sql_alchemy_conn: variable AIRFLOW__CORE__SQL_ALCHEMY_CONN: the " +
				"database URL is set, and empty" + unset,
		},
		"the command of a variable": {
			"", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD=bash -c 'eval \"$NOT_SET\"'",
			"[database] sql_alchemy_conn: command of variable " +
				"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD: the command printed no database URL" +
				unset,
		},
		"an empty line of a command": {
			"", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD=echo",
			"[database] sql_alchemy_conn: command of variable " +
				"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD: the command printed no database URL" +
				unset,
		},
		"the file": {
			"[database]\nsql_alchemy_conn =\n", "",
			"HOME/airflow.cfg:2: [database] sql_alchemy_conn: the database URL is set, and " +
				"empty" + unset,
		},
		"the command of the file": {
			"[database]\nsql_alchemy_conn_cmd = true\n", "",
			"HOME/airflow.cfg:2: [database] sql_alchemy_conn: " + nothing,
		},
		"a secret, and no backend to ask": {
			"", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET=k",
			"[database] sql_alchemy_conn: secret of variable " +
				"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET: " + nothing,
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "")
			src.AirflowHome = airflowHome(t, tc.cfg)
			src.Environ = append(src.Environ, tc.env)
			if diff := cmp.Diff(strings.ReplaceAll(tc.want, "HOME", src.AirflowHome),
				loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFernetKeyThatCannotBeUsedIsAWarning(t *testing.T) {
	const good = "ds8OE6pp_iFsgoz7KGZ68L-byl73VniQX96D66qMVBs="
	const after = ": what is encrypted in the metastore cannot be read"
	const form = " (each one is 32 bytes in base64, separated by a comma and nothing else)"
	for name, tc := range map[string]struct{ cfg, env, want string }{
		"a variable that nothing expanded": {
			"[core]\nfernet_key = $FERNET_KEY\n", "",
			"HOME/airflow.cfg:2: key 1 of 1 in fernet_key is unusable: not base64: a character " +
				"or padding is missing (it looks like a variable that nothing expanded)" + after,
		},
		"a comma at the end": {
			"", "AIRFLOW__CORE__FERNET_KEY=" + good + ",",
			"variable AIRFLOW__CORE__FERNET_KEY: key 2 of 2 in fernet_key is unusable: it is " +
				"blank" + form + after,
		},
		"a wrong length": {
			"[core]\nfernet_key_cmd = echo aHVudGVyMg==\n", "",
			"command of HOME/airflow.cfg:2: key 1 of 1 in fernet_key is unusable: it decodes to " +
				"7 bytes, not 32" + form + after,
		},
		"an empty variable": {
			"[core]\nfernet_key = " + good + "\n", "AIRFLOW__CORE__FERNET_KEY=",
			"variable AIRFLOW__CORE__FERNET_KEY: the Fernet key is set, and empty" + after,
		},
		"a good one":           {"[core]\nfernet_key = " + good + "\n", "", ""},
		"none, as by default":  {"[core]\nfernet_key =\n", "", ""},
		"two, one on each end": {"[core]\nfernet_key = " + good + "," + good + "\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "[[grant]]\nrun_as_user = 1\nconnections = [\"*\"]\n")
			src.AirflowHome = airflowHome(t, tc.cfg)
			src.Environ = append(src.Environ, tc.env)
			var want []string
			if tc.want != "" {
				want = []string{strings.ReplaceAll(tc.want, "HOME", src.AirflowHome)}
			}
			if diff := cmp.Diff(want, load(t, src).Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// The variables of a widely used Helm chart, and a program that logs in with variables of its own.
func TestTheCommandOfAVariableGetsTheWholeEnvironment(t *testing.T) {
	src := source(t, "")
	src.Environ = append(src.Environ, "NOTIFY_SOCKET=/run/n",
		`DATABASE_SQLALCHEMY_CMD=echo -n "postgresql://u@h/$VAULT_TOKEN$NOTIFY_SOCKET"`,
		"VAULT_TOKEN=db",
		`AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD=bash -c 'eval "$DATABASE_SQLALCHEMY_CMD"'`)
	want := &metastore.Settings{URL: "postgresql://u@h/db"}
	if diff := cmp.Diff(want, load(t, src).Resolver.Metastore); diff != "" {
		t.Errorf("metastore (-want +got):\n%s", diff)
	}
}

func TestVariablesCountWithoutAHome(t *testing.T) {
	src := source(t, "")
	src.Environ = append(src.Environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgres://u@h/db",
		"AIRFLOW__CORE__FERNET_KEY=k")
	want := &metastore.Settings{URL: "postgresql://u@h/db", FernetKey: "k"}
	if diff := cmp.Diff(want, load(t, src).Resolver.Metastore); diff != "" {
		t.Errorf("metastore (-want +got):\n%s", diff)
	}
}

func TestAirflowHomeIsChosenInOrder(t *testing.T) {
	flag := airflowHome(t, "[core]\n")
	key := airflowHome(t, "[core]\n")
	variable := airflowHome(t, "[core]\n")
	for name, tc := range map[string]struct {
		flag, key, variable string
		want, origin        string
	}{
		"flag":     {flag, key, variable, flag, "--airflow-home"},
		"key":      {"", key, variable, key, "CONFIG:1"},
		"variable": {"", "", variable, variable, "variable AIRFLOW_HOME"},
		"none":     {"", "", "", "", "default"},
		"missing":  {"", "", "/nonexistent/airflow", "", "default"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "# none"
			if tc.key != "" {
				text = "airflow_home = \"" + tc.key + "\"\n"
			}
			src := source(t, text)
			src.AirflowHome = tc.flag
			if tc.variable != "" {
				src.Environ = append(src.Environ, "AIRFLOW_HOME="+tc.variable)
			}
			got := setting(t, load(t, src), "airflow_home")
			origin := strings.ReplaceAll(tc.origin, "CONFIG", src.ConfigFile)
			if got.Value != tc.want || got.Origin != origin {
				t.Errorf("got %v of %s, want %v of %s", got.Value, got.Origin, tc.want, tc.origin)
			}
		})
	}
}

func TestAirflowConfigurationThatCannotServe(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  string
		env  []string
		want string
	}{
		"connect_args": {
			cfg: "[database]\nsql_alchemy_connect_args = site.args\n",
			want: "HOME/airflow.cfg:2: [database] sql_alchemy_connect_args: it names a Python " +
				"object, which only Python can load (set metastore.url in config.toml, with " +
				"parameters such as ?sslmode=verify-full&sslrootcert=/path (PostgreSQL) or " +
				"?ssl_ca=/path (MySQL))",
		},
		"a lone percent": {
			cfg:  "[core]\nfernet_key = hunter2%x\n",
			want: "HOME/airflow.cfg:2: [core] fernet_key: a lone % must be written %%",
		},
		"a command that fails": {
			cfg: "[core]\nfernet_key_cmd = sh -c 'echo hunter2; echo hunter2 >&2; exit 3'\n",
			want: "HOME/airflow.cfg:2: [core] fernet_key: " +
				"the command \"sh\" ended with exit status 3",
		},
		"a stray line": {
			cfg: "[core]\nhunter2\n",
			want: "HOME/airflow.cfg:2: the line is neither a section, an option, a comment nor " +
				"the indented continuation of a value",
		},
		"no database of ours": {
			cfg: "[database]\nsql_alchemy_conn = mssql://u:hunter2@h/db\n",
			want: "HOME/airflow.cfg:2: [database] sql_alchemy_conn: this is not the URL of a " +
				"PostgreSQL, MySQL, MariaDB or SQLite database " +
				"(postgresql://user:password@host/database)",
		},
		"the URL of a task": {
			cfg: "[core]\n",
			env: []string{"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=airflow-db-not-allowed:///"},
			want: "[database] sql_alchemy_conn: variable AIRFLOW__DATABASE__SQL_ALCHEMY_CONN: " +
				"this is what Airflow 3 gives to tasks in place of the database URL (start " +
				"connfs outside a task)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "")
			src.AirflowHome = airflowHome(t, tc.cfg)
			src.Environ = append(src.Environ, tc.env...)
			if diff := cmp.Diff(strings.ReplaceAll(tc.want, "HOME", src.AirflowHome),
				loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAirflowConfigThatIsNotThereIsAWarning(t *testing.T) {
	src := source(t, "")
	src.AirflowHome = airflowHome(t, "[core]\nfernet_key = k\n")
	src.Environ = append(src.Environ, "AIRFLOW_CONFIG=/nonexistent/airflow.cfg")
	want := "the variable AIRFLOW_CONFIG names /nonexistent/airflow.cfg, which is not there"
	if got := load(t, src).Warnings[0]; got != want {
		t.Errorf("got %q", got)
	}
}

func TestAirflowWarnings(t *testing.T) {
	src := source(t, "")
	src.AirflowHome = airflowHome(t, "[core]\nsql_alchemy_conn = postgresql://u:hunter2@h/db\n")
	cfg := filepath.Join(src.AirflowHome, "airflow.cfg")
	if err := os.Chmod(cfg, 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"[core] sql_alchemy_conn (" + cfg + ":2) is the old name of [database] sql_alchemy_conn, " +
			"which not every Airflow reads",
		cfg + " holds a secret, and everybody can read it; run: chmod o-rwx " + cfg,
		cfg + ":2: the database server at h need not prove who it is: whoever is on the network " +
			"in between can read and change what it answers, and get the password (add " +
			"sslmode=verify-full and sslrootcert=/path to the URL)",
		"there is no configuration file: uid 1000, and nobody else, may read every connection",
	}
	if diff := cmp.Diff(want, load(t, src).Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestUserOfTheChildrenMustExist(t *testing.T) {
	src := source(t, "# who\nuser = \"nobody-here\"\n")
	src.EUID = 0
	if diff := cmp.Diff(src.ConfigFile+":2: user: this machine has no such user",
		loadError(t, src)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestMountpointIsNamedOnce(t *testing.T) {
	mount := "[[mount]]\npath = \"/conn\"\n"
	for name, tc := range map[string]struct {
		text, mountpoint string
		need             bool
		want             string
	}{
		"both": {mount, "/other", true,
			"CONFIG:2: mount: the command line names a mountpoint too (only one of the two)"},
		"neither": {"# none", "", true,
			"no mountpoint (connfs mount MOUNTPOINT, " +
				"or a [[mount]] with a path in the configuration)"},
		"not needed": {"# none", "", false, ""},
		"one":        {mount, "", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.text)
			src.Mountpoint, src.NeedMount = tc.mountpoint, tc.need
			src.Environ = append(src.Environ, "AIRFLOW_CONN_A=http://h")
			if tc.want == "" {
				load(t, src)
				return
			}
			if diff := cmp.Diff(strings.ReplaceAll(tc.want, "CONFIG", src.ConfigFile),
				loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigurationFileThatIsNotThere(t *testing.T) {
	src := source(t, "")
	src.ConfigFile = "/nonexistent/config.toml"
	load(t, src)
	src.ConfigExplicit = true
	if diff := cmp.Diff("/nonexistent/config.toml: no such file or directory",
		loadError(t, src)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}
