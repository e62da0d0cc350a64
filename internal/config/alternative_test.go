package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/backend"
)

const (
	localFiles = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
)

func TestAlternativeBackendOfConfigToml(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want *backend.Secrets
		why  string
	}{
		"none": {"# none", nil, "not searched: [secrets] backend is not set"},
		"a table": {
			"[secrets]\nbackend = \"local_filesystem\"\n" +
				"backend_kwargs = { connections_file_path = \"/x.json\" }\n",
			&backend.Secrets{Backend: "local_filesystem", Kwargs: `{"connections_file_path":"/x.json"}`},
			`searched first: local_filesystem, of secrets.backend (CONFIG:2); after it the metastore, then the environment: order = "aip-33" (default)`,
		},
		"a class path and Airflow's order": {
			"order = \"airflow\"\n[secrets]\nbackend = \"" + localFiles +
				"\"\n[secrets.backend_kwargs]\nconnections_file_path = \"/x.env\"\n" +
				"variables_file_path = \"/y\"\n",
			&backend.Secrets{Backend: localFiles, Kwargs: `{"connections_file_path":"/x.env","variables_file_path":"/y"}`},
			`searched first: local_filesystem, of secrets.backend (CONFIG:3); after it the environment, then the metastore: order = "airflow" (CONFIG:1)`,
		},
		"text, which has a null": {
			"[secrets]\nbackend = \"local_filesystem\"\n" +
				"backend_kwargs = '{\"connections_file_path\": null}'\n",
			&backend.Secrets{Backend: "local_filesystem", Kwargs: `{"connections_file_path":null}`},
			`searched first: local_filesystem, of secrets.backend (CONFIG:2); after it the metastore, then the environment: order = "aip-33" (default)`,
		},
		"arguments of every type": {
			"[secrets]\nbackend = \"local_filesystem\"\n[secrets.backend_kwargs]\n" +
				"variables_file_path = [1, 2.5, true, \"<&>\", { a.b = -9007199254740993 }, []]\n",
			&backend.Secrets{Backend: "local_filesystem", Kwargs: `{"variables_file_path":[1,2.5,true,"\u003c\u0026\u003e",{"a":{"b":-9007199254740993}},[]]}`},
			`searched first: local_filesystem, of secrets.backend (CONFIG:2); after it the metastore, then the environment: order = "aip-33" (default)`,
		},
		"switched off": {
			"[secrets]\nbackend = \"\"\nbackend_kwargs = {}\n", nil,
			"not searched: secrets.backend (CONFIG:2) is empty",
		},
		"the environment": {
			"[secrets]\nbackend = " +
				"\"airflow.secrets.environment_variables.EnvironmentVariablesBackend\"\n", nil,
			"not searched: secrets.backend (CONFIG:2) names the environment, which is in the " +
				"path anyway",
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.text)
			got := load(t, src)
			if diff := cmp.Diff(tc.want, got.Resolver.Secrets); diff != "" {
				t.Errorf("secrets (-want +got):\n%s", diff)
			}
			why := "alternative backend: " + strings.ReplaceAll(tc.why, "CONFIG", src.ConfigFile)
			if diff := cmp.Diff(why, got.Front.Path[0]); diff != "" {
				t.Errorf("path (-want +got):\n%s", diff)
			}
		})
	}
}

// The sentences stand in the order of the search itself.
func TestThePathIsDescribedInItsOrder(t *testing.T) {
	backend := "\n[secrets]\nbackend = \"local_filesystem\"\n"
	for text, want := range map[string][]string{
		`order = "aip-33"`: {"alternative backend: not searched", "environment: searched first",
			"metastore: "},
		`order = "airflow"`: {"alternative backend: not searched", "environment: searched first",
			"metastore: "},
		`order = "aip-33"` + backend: {"alternative backend: searched first: local_filesystem",
			"metastore: ", "environment: searched last"},
		`order = "airflow"` + backend: {"alternative backend: searched first: local_filesystem",
			"environment: searched next", "metastore: "},
	} {
		got := load(t, source(t, text+"\n[metastore]\nurl = \"sqlite:////a.db\"\n"))
		path, err := all.Open(&got.Resolver, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var searched []string
		for i, sentence := range got.Front.Path {
			if !strings.HasPrefix(sentence, want[i]) {
				t.Errorf("%s: sentence %d is %q", text, i, sentence)
			}
			place, rest, _ := strings.Cut(sentence, ": ")
			switch {
			case strings.HasPrefix(rest, "not searched"):
			case place == "alternative backend":
				searched = append(searched, "local_filesystem")
			default:
				searched = append(searched, place)
			}
		}
		var names []string
		for _, a := range path.Explain(t.Context(), "x") {
			names = append(names, a.Name)
		}
		if diff := cmp.Diff(names, searched); diff != "" {
			t.Errorf("%s: the path and its description (-path +described):\n%s", text, diff)
		}
	}
}

func TestAlternativeBackendOfAirflow(t *testing.T) {
	const from = "[secrets]\nbackend = " + localFiles +
		"\nbackend_kwargs = {\"connections_file_path\": \"/cfg.json\"}\n"
	const workers = "[workers]\nsecrets_backend = " + localFiles +
		"\nsecrets_backend_kwargs = {\"connections_file_path\": \"/worker.json\"}\n"
	local := func(path string) *backend.Secrets {
		return &backend.Secrets{Backend: localFiles, Kwargs: fmt.Sprintf(`{"connections_file_path":%q}`, path)}
	}
	for name, tc := range map[string]struct {
		cfg, toml string
		env       []string
		want      *backend.Secrets
		why       string // of the first sentence, up to its origin
		warning   string
	}{
		"its file": {cfg: from, want: local("/cfg.json"),
			why: "searched first: local_filesystem, " +
				"of [secrets] backend (HOME/airflow.cfg:2); after"},
		"a variable": {
			cfg: from, env: []string{"AIRFLOW__SECRETS__BACKEND=" + localFiles, `AIRFLOW__SECRETS__BACKEND_KWARGS={"connections_file_path": "/variable.json"}`},
			want: local("/variable.json"), why: "searched first: local_filesystem, of [secrets] " +
				"backend (variable AIRFLOW__SECRETS__BACKEND)",
		},
		"a variable that empties it": {
			cfg: from, env: []string{"AIRFLOW__SECRETS__BACKEND="},
			why: "not searched: [secrets] backend (variable AIRFLOW__SECRETS__BACKEND) is empty",
		},
		"a command": {
			cfg: "[secrets]\nbackend = " + localFiles +
				"\nbackend_kwargs_cmd = printf '{\"connections_file_path\": \"/cmd.json\"}'\n",
			want: local("/cmd.json"), why: "searched first",
		},
		"no arguments": {
			cfg:  "[secrets]\nbackend = " + localFiles + "\nbackend_kwargs =\n",
			want: &backend.Secrets{Backend: localFiles}, why: "searched first",
		},
		"a variable for each argument, over the others": {
			cfg: from,
			env: []string{"AIRFLOW__SECRETS__BACKEND_KWARG__CONNECTIONS_FILE_PATH=/$HOME.json",
				"AIRFLOW__SECRETS__BACKEND_KWARG__=x",
				"AIRFLOW__WORKERS__SECRETS_BACKEND_KWARG__X=x"},
			want: local("/$HOME.json"), why: "searched first",
		},
		"tasks of Airflow 3": {
			cfg: from + workers, want: local("/worker.json"),
			why: "searched first: local_filesystem, of [workers] secrets_backend " +
				"(HOME/airflow.cfg:5), which tasks of Airflow 3 ask in place of [secrets] " +
				"backend; after",
			warning: "[secrets] backend (HOME/airflow.cfg:2) is not searched: [workers] " +
				"secrets_backend (HOME/airflow.cfg:5), which tasks of Airflow 3 ask in its " +
				"place, is set",
		},
		"tasks of Airflow 3, by variables": {
			cfg: "[core]\n", env: []string{"AIRFLOW__WORKERS__SECRETS_BACKEND=" + localFiles,
				"AIRFLOW__WORKERS__SECRETS_BACKEND_KWARG__CONNECTIONS_FILE_PATH=/one.json",
				"AIRFLOW__SECRETS__BACKEND_KWARG__X=x"},
			want: local("/one.json"), why: "searched first: local_filesystem, of [workers] " +
				"secrets_backend (variable AIRFLOW__WORKERS__SECRETS_BACKEND)",
		},
		"the tasks' backend never takes the arguments of the other": {
			cfg:  from + "[workers]\nsecrets_backend = " + localFiles + "\n",
			want: &backend.Secrets{Backend: localFiles},
			why:  "searched first: local_filesystem, of [workers]",
			warning: "[secrets] backend (HOME/airflow.cfg:2) is not searched: [workers] " +
				"secrets_backend (HOME/airflow.cfg:5), which tasks of Airflow 3 ask in its " +
				"place, is set",
		},
		"config.toml wins, with its own arguments": {
			cfg: from + workers, toml: "[secrets]\nbackend = \"local_filesystem\"\n",
			want: &backend.Secrets{Backend: "local_filesystem"},
			why:  "searched first: local_filesystem, of secrets.backend (CONFIG:2)",
		},
		"config.toml switches the backend off": {
			cfg:  "[secrets]\nbackend = site.vault.Backend\nbackend_kwargs = no JSON\n",
			toml: "[secrets]\nbackend = \"\"\n",
			why:  "not searched: secrets.backend (CONFIG:2) is empty",
		},
		"several teams": {
			cfg: from + "[core]\nmulti_team = True # 3.2\n", why: "searched first",
			want: &backend.Secrets{Backend: localFiles, Kwargs: `{"connections_file_path":"/cfg.json"}`, MultiTeam: true},
		},
		"several teams, and config.toml's backend": {
			cfg: "[core]\nmulti_team = t\n", toml: "[secrets]\nbackend = \"local_filesystem\"\n",
			why:  "searched first",
			want: &backend.Secrets{Backend: "local_filesystem", MultiTeam: true},
		},
		"connfs's own class": {
			cfg: "[secrets]\nbackend = connfs_airflow.ConnfsBackend\n" +
				"backend_kwargs = {\"mount\": \"/conn\"}\n",
			why: "not searched: [secrets] backend (HOME/airflow.cfg:2) names connfs's own class, " +
				"which would ask connfs again; a store to search belongs under [secrets] of " +
				"config.toml",
		},
		"connfs's own class for tasks, by a variable": {
			cfg: "[core]\n",
			env: []string{"AIRFLOW__WORKERS__SECRETS_BACKEND=connfs_airflow.ConnfsBackend"},
			why: "not searched: [workers] secrets_backend (variable " +
				"AIRFLOW__WORKERS__SECRETS_BACKEND) names connfs's own class",
		},
		"connfs's own class for tasks, and the store for the others": {
			cfg:  from + "[workers]\nsecrets_backend = connfs_airflow.ConnfsBackend\n",
			want: local("/cfg.json"),
			why: "searched first: local_filesystem, of [secrets] backend (HOME/airflow.cfg:2), " +
				"since [workers] secrets_backend (HOME/airflow.cfg:5) names connfs's own class; " +
				"after it",
		},
		"connfs's own class, and another one for tasks": {
			cfg:  "[secrets]\nbackend = connfs_airflow.ConnfsBackend\n" + workers,
			want: local("/worker.json"),
			why: "searched first: local_filesystem, of [workers] secrets_backend " +
				"(HOME/airflow.cfg:4), since [secrets] backend (HOME/airflow.cfg:2) names " +
				"connfs's own class; after it",
		},
		"connfs's own class, and a store in config.toml": {
			cfg:  "[secrets]\nbackend = connfs_airflow.ConnfsBackend\n",
			toml: "[secrets]\nbackend = \"local_filesystem\"\n",
			want: &backend.Secrets{Backend: "local_filesystem"},
			why:  "searched first: local_filesystem, of secrets.backend (CONFIG:2); after it",
		},
		"a class path of Airflow 1.10": {
			cfg: "[secrets]\nbackend = airflow.contrib.secrets.hashicorp_vault.VaultBackend\n" +
				"backend_kwargs = {\"url\": \"http://127.0.0.1:8200\", \"token\": \"t\", " +
				"\"mount_point\": \"airflow\", \"kv_engine_version\": 1}\n",
			want: &backend.Secrets{
				Backend: "airflow.contrib.secrets.hashicorp_vault.VaultBackend",
				Kwargs: `{"kv_engine_version":1,"mount_point":"airflow","token":"t",` +
					`"url":"http://127.0.0.1:8200"}`,
			},
			why: "searched first: vault, of [secrets] backend (HOME/airflow.cfg:2); after it",
		},
		"one team": {cfg: from + "[core]\nmulti_team = f\n", want: local("/cfg.json"),
			why: "searched first"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.toml)
			src.AirflowHome = airflowHome(t, tc.cfg)
			src.Environ = append(src.Environ, tc.env...)
			got := load(t, src)
			if diff := cmp.Diff(tc.want, got.Resolver.Secrets); diff != "" {
				t.Errorf("secrets (-want +got):\n%s", diff)
			}
			here := strings.NewReplacer("HOME", src.AirflowHome, "CONFIG", src.ConfigFile)
			why := "alternative backend: " + here.Replace(tc.why)
			if !strings.HasPrefix(got.Front.Path[0], why) {
				t.Errorf("path: %q does not begin with %q", got.Front.Path[0], why)
			}
			warnings := strings.Join(got.Warnings, "\n")
			if strings.Contains(warnings, "is not searched") != (tc.warning != "") ||
				!strings.Contains(warnings, here.Replace(tc.warning)) {
				t.Errorf("warnings: %q", got.Warnings)
			}
		})
	}
}

func TestAlternativeBackendOfAirflowThatCannotServe(t *testing.T) {
	const without = ` (under [secrets] of config.toml: backend = "exec" with a program that asks it, or backend = "" to go on without it)`
	const backend = "[secrets]\nbackend = " + localFiles + "\n"
	for name, tc := range map[string]struct {
		cfg  string
		env  []string
		want string
	}{
		"one of Airflow's that connfs does not have": {
			cfg: "[core]\n[secrets]\nbackend = " +
				"airflow.providers.yandex.secrets.lockbox.LockboxSecretBackend\n",
			want: "HOME/airflow.cfg:3: [secrets] backend: connfs does not have " +
				"airflow.providers.yandex.secrets.lockbox.LockboxSecretBackend, and a connection " +
				"that only it holds would seem absent" + without,
		},
		"a site's own": {
			cfg: "[workers]\nsecrets_backend = site.Backend\n",
			want: "HOME/airflow.cfg:2: [workers] secrets_backend: connfs does not have " +
				"site.Backend, and a connection that only it holds would seem absent" + without,
		},
		"a short name": {
			cfg: "[core]\n", env: []string{"AIRFLOW__SECRETS__BACKEND=local_filesystem"},
			want: "[secrets] backend: variable AIRFLOW__SECRETS__BACKEND: it is not the path of " +
				"a class, and Airflow could not load it; short names are for config.toml",
		},
		"a short name for tasks": {
			cfg: "[workers]\nsecrets_backend = vault\n",
			want: "HOME/airflow.cfg:2: [workers] secrets_backend: it is not the path of a class, " +
				"and Airflow could not load it; short names are for config.toml",
		},
		"the metastore": {
			cfg: "[secrets]\nbackend = airflow.secrets.metastore.MetastoreBackend\n",
			want: "HOME/airflow.cfg:2: [secrets] backend: the metastore is in the path without " +
				"being named, and named here Airflow asks it before the environment, which " +
				"connfs does not (leave it out, or set backend = \"\" under [secrets] of " +
				"config.toml)",
		},
		"no JSON": {
			cfg: backend + "backend_kwargs = {'connections_file_path': '/hunter2'}\n",
			want: "HOME/airflow.cfg:3: [secrets] backend_kwargs: it is not JSON from line 1, " +
				"column 2 on: Airflow goes on " +
				"without any argument then, and would ask the wrong place",
		},
		"no object": {
			cfg: backend, env: []string{`AIRFLOW__SECRETS__BACKEND_KWARGS=["hunter2"]`},
			want: "[secrets] backend_kwargs: variable AIRFLOW__SECRETS__BACKEND_KWARGS: it is " +
				"not a JSON object: Airflow goes on without any argument then, and would ask the " +
				"wrong place",
		},
		"a quote in an expanded variable": {
			cfg: backend + "backend_kwargs = {\"connections_file_path\": \"$TOK\"}\n",
			env: []string{`TOK=hunter2"b`},
			want: "HOME/airflow.cfg:3: [secrets] backend_kwargs: it is not JSON from line 1, " +
				"column 36 on: Airflow goes on " +
				"without any argument then, and would ask the wrong place",
		},
		"a command that fails": {
			cfg: backend + "backend_kwargs_cmd = false\n",
			want: "HOME/airflow.cfg:3: [secrets] backend_kwargs: the command \"false\" ended " +
				"with exit status 1",
		},
		"its own secret": {
			cfg: backend + "backend_kwargs_secret = k\n",
			want: "HOME/airflow.cfg:3: [secrets] backend_kwargs: it asks the secrets backend for " +
				"an option of Airflow's configuration, which connfs does not do: set it in " +
				"config.toml",
		},
		"the secret of another option": {
			cfg: backend + "[core]\nfernet_key_secret = k\n",
			want: "HOME/airflow.cfg:4: [core] fernet_key: it asks the secrets backend for an " +
				"option of Airflow's configuration, which connfs does not do: set it in " +
				"config.toml",
		},
		"an unknown argument": {
			cfg: backend + "backend_kwargs = {\"path\": \"/x\", \"connections_file_path\": 7}\n",
			want: "HOME/airflow.cfg:3: [secrets] backend_kwargs.connections_file_path: expected " +
				"a string\nHOME/airflow.cfg:3: [secrets] backend_kwargs.path: connfs does not " +
				"know this argument",
		},
		"an unknown argument in a variable": {
			cfg: backend, env: []string{"AIRFLOW__SECRETS__BACKEND_KWARG__TOKEN=hunter2"},
			want: "[secrets] backend_kwargs.token: variable " +
				"AIRFLOW__SECRETS__BACKEND_KWARG__TOKEN: connfs does not know this argument",
		},
		"bytes that are no text": {
			cfg: backend,
			env: []string{"AIRFLOW__SECRETS__BACKEND_KWARG__CONNECTIONS_FILE_PATH=/hunter2\xff"},
			want: "[secrets] backend_kwargs.connections_file_path: variable " +
				"AIRFLOW__SECRETS__BACKEND_KWARG__CONNECTIONS_FILE_PATH: this is not UTF-8",
		},
		"neither one team nor several": {
			cfg:  backend + "[core]\nmulti_team = yes\n",
			want: "HOME/airflow.cfg:4: [core] multi_team: it is neither true nor false",
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

// Where connfs has no backend of Airflow's to ask, a _secret is skipped, as in Airflow.
func TestSecretOptionsWithoutABackendAreSkipped(t *testing.T) {
	src := source(t, "[secrets]\nbackend = \"local_filesystem\"\n")
	src.AirflowHome = airflowHome(t, "[database]\nsql_alchemy_conn = sqlite:////a.db\n[core]\n"+
		"fernet_key_secret = k\n")
	if got := load(t, src).Resolver.Metastore.FernetKey; got != "" {
		t.Errorf("the key is %q", got)
	}
}

func TestArgumentsThatAreSecretsAreNotShown(t *testing.T) {
	// None of these backends is opened: an argument shows before it is understood.
	for name, secret := range map[string]bool{
		`token = "x"`: true, `token = ""`: false, `token_path = "/run/token"`: false, `secret_id = "x"`: true, `role_id = "x"`: false,
		`password = "x"`: true, `url = "https://vault:8200"`: false, `url = "https://u:x@vault:8200"`: true,
		`aws_secret_access_key = "x"`: true, `aws_session_token = "x"`: true, `aws_access_key_id = "x"`: false, `region_name = "x"`: false,
		`profile_name = "x"`: false, `role_arn = "x"`: false, `gcp_keyfile_dict = { private_key = "x" }`: true, `gcp_keyfile_dict = '{"private_key": "x"}'`: true,
		`gcp_key_path = "/x.json"`: false, `gcp_credential_config_file = "/x.json"`: false, `gcp_credential_config_file = '{"a": "x"}'`: true,
		`gcp_credential_config_file = { client_secret = "x" }`: true, `project_id = "x"`: false, `connections_prefix = "x"`: false,
		`assume_role_kwargs = { ExternalId = "x" }`: false, `session_kwargs = { aws_session_token = "x" }`: true,
		`config_kwargs = { proxies = { https = "http://u:x@proxy" } }`: true, `kv_engine_version = 2`: false, `verify = false`: false,
		`use_team_secrets_path = true`: false, `global_secrets_path = "x"`: false, `connections_path = ["a", "b"]`: false, `kubernetes_jwt_path = "/x"`: false,
		`env = { A = "x" }`: true, `command = ["/usr/bin/store", "--read"]`: false, `github = [{ token = "x" }]`: true,
	} {
		src := source(t, "[secrets]\nbackend = \"local_filesystem\"\n\n[secrets.backend_kwargs]\n"+
			name+"\n")
		write(t, src.ConfigFile, must(os.ReadFile(src.ConfigFile)), 0o644)
		key, _, _ := strings.Cut(name, " ")
		complaint := fmt.Sprintf("%s:5: secrets.backend_kwargs.%s: a secret in a file that "+
			"everybody can read (run: chmod o-rwx %[1]s)", src.ConfigFile, key)
		if got := loadError(t, src) == complaint; got != secret {
			t.Errorf("%s: refused as a readable secret: %v, want %v", name, got, secret)
		}
	}
}

func must(b []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestAlternativeBackendIsShown(t *testing.T) {
	src := source(t, "[secrets]\nbackend = \"local_filesystem\"\n[secrets.backend_kwargs]\n"+
		"connections_file_path = \"/x.json\"\nvariables_file_path = { token = \"hunter2\" }\n"+
		"configs_file_path = [1, \"a\"]\n")
	src.AirflowHome = airflowHome(t, "[core]\nmulti_team = true\n")
	got := load(t, src)
	show := func(secrets bool) string {
		var b strings.Builder
		if err := config.WriteSettings(&b, got.Settings, secrets, false); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, "secrets.") || strings.HasPrefix(line, "multi_team") {
				lines = append(lines, line)
			}
		}
		here := strings.NewReplacer(src.ConfigFile, "CONFIG", src.AirflowHome, "HOME")
		return here.Replace(strings.Join(lines, ""))
	}
	want := `secrets.backend = "local_filesystem"  # CONFIG:2
secrets.backend_kwargs.configs_file_path = [1,"a"]  # CONFIG:6
secrets.backend_kwargs.connections_file_path = "/x.json"  # CONFIG:4
secrets.backend_kwargs.variables_file_path = "[redacted]"  # CONFIG:5
multi_team = true  # HOME/airflow.cfg:2
`
	if diff := cmp.Diff(want, show(false)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Replace(want, `"[redacted]"`, `"{\"token\":\"hunter2\"}"`, 1), show(true)); diff != "" {
		t.Errorf("settings with secrets (-want +got):\n%s", diff)
	}
}

func TestReadableAirflowConfigurationWithASecretArgumentIsAWarning(t *testing.T) {
	src := source(t, "")
	src.AirflowHome = airflowHome(t, "[secrets]\nbackend = "+localFiles+
		"\nbackend_kwargs = {\"variables_file_path\": {\"token\": \"hunter2\"}}\n")
	cfg := filepath.Join(src.AirflowHome, "airflow.cfg")
	if err := os.Chmod(cfg, 0o644); err != nil {
		t.Fatal(err)
	}
	want := cfg + " holds a secret, and everybody can read it; run: chmod o-rwx " + cfg
	if got := load(t, src).Warnings; got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
