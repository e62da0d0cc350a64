//go:build integration

package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/connfs/connfs/resolve/resolvetest"
)

// worker is a user who may write DAGs and an airflow.cfg, and nothing of connfs's.
const worker = 5004

// listener is a Vault of the worker's: it lets everybody log in, has every connection, and
// remembers all that it is sent.
type listener struct {
	*httptest.Server
	mu  sync.Mutex
	got strings.Builder
}

func listen(t *testing.T) *listener {
	l := &listener{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		fmt.Fprintf(&l.got, "%s %s %v %s\n", r.Method, r.URL, r.Header, body)
		l.mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/v1/auth/") {
			fmt.Fprint(w, `{"auth": {"client_token": "theirs", "lease_duration": 3600}}`)
			return
		}
		fmt.Fprint(w, `{"data": {"data": {"conn_uri": "http://u:theirs@h/"}}}`)
	}))
	t.Cleanup(l.Close)
	return l
}

// all returns everything that was sent.
func (l *listener) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got.String()
}

func (l *listener) heardNothing(t *testing.T, when string) {
	t.Helper()
	if got := l.all(); got != "" {
		t.Errorf("%s: the worker's server was sent:\n%s", when, got)
	}
}

// vaultConfig is an airflow.cfg that has connfs log in at url with these arguments.
func vaultConfig(url, arguments string) string {
	return fmt.Sprintf("[secrets]\n"+
		"backend = airflow.providers.hashicorp.secrets.vault.VaultBackend\n"+
		"backend_kwargs = {\"url\": %q, \"connections_path\": \"c\", %s}\n", url, arguments)
}

// give makes files or directories belong to a user.
func give(t *testing.T, uid int, paths ...string) {
	t.Helper()
	for _, path := range paths {
		must(t, os.Lchown(path, uid, uid))
	}
}

// The worker owns the directory above airflow_home. It puts a link there, to a directory of its
// own under a sticky one of root's, with an airflow.cfg that sends a file of root's to its server.
func TestALinkOfTheWorkersMovesNoSecret(t *testing.T) {
	t.Parallel()
	s, server, secret := newSite(t), listen(t), canary()
	work, shared := filepath.Join(s.dir, "work"), filepath.Join(s.dir, "shared")
	rootOnly := filepath.Join(s.dir, "root-only")
	theirs := filepath.Join(shared, "theirs")
	must(t, os.Mkdir(work, 0o755), os.Rename(s.home, filepath.Join(work, "airflow")),
		os.Mkdir(shared, 0o755), os.Chmod(shared, 0o777|os.ModeSticky), os.Mkdir(theirs, 0o755),
		os.WriteFile(rootOnly, []byte(secret), 0o600))
	s.home = filepath.Join(work, "airflow")
	cfg := filepath.Join(theirs, "airflow.cfg")
	must(t, os.WriteFile(cfg, []byte(vaultConfig(server.URL,
		`"auth_type": "jwt", "jwt_role": "r", "jwt_token_path": "`+rootOnly+`"`)), 0o644))
	give(t, worker, theirs, cfg)
	s.configure("", s.environment("AIRFLOW_CONN_A=http://u:"+secret+"@h/")+grant(alice, "*"))

	// While the directory is root's, connfs serves.
	d := s.serve("VAULT_TOKEN=" + secret)
	a := as(t, alice)
	if got := a.read(s.file("a")); !strings.Contains(string(got.Data), secret) {
		t.Fatalf("read: %q, %d bytes", got.failure(), len(got.Data))
	}
	moved := filepath.Join(s.dir, "moved")
	link := func(to string) {
		must(t, os.Rename(s.home, moved), os.Symlink(to, s.home))
		give(t, worker, s.home)
	}
	give(t, worker, work)
	link(theirs)
	d.reload("not reloaded: the old configuration stays in force")
	want := fmt.Sprintf("somebody else could change it: %s: it belongs to uid %d", work, worker)
	d.await(want)
	server.heardNothing(t, "after a reload")

	// Nor does it become root, or anybody else, where no user is set.
	must(t, os.Remove(s.home), os.Rename(moved, s.home))
	give(t, 0, work)
	d.stop()
	text, err := os.ReadFile(s.config)
	must(t, err, os.WriteFile(s.config,
		[]byte(strings.Replace(string(text), fmt.Sprintf("user = %d\n", owner), "", 1)), 0o600))
	give(t, worker, work)
	link(theirs)
	for _, command := range []string{"mount", "check", "list", "config"} {
		cmd := s.command()
		cmd.Args[1] = command
		if command != "mount" {
			cmd.Args = cmd.Args[:len(cmd.Args)-1]
		}
		code, printed := s.refused(cmd)
		if code == 0 || !strings.Contains(printed, "airflow_home is not root's own: "+work+
			fmt.Sprintf(": it belongs to uid %d", worker)) {
			t.Errorf("%s: exit code %d:\n%s", command, code, printed)
		}
	}
	server.heardNothing(t, "without a user")
	if strings.Contains(d.log(), secret) {
		t.Error("the log shows the secret")
	}
}

// The worker's own airflow.cfg sends what only the children may read, and what only root's
// environment holds, to the worker's server.
func TestAnAirflowOfTheWorkersIsNotObeyed(t *testing.T) {
	t.Parallel()
	s, server, secret := newSite(t), listen(t), canary()
	environment := filepath.Join(s.dir, "connections.env")
	must(t, os.WriteFile(environment, []byte("AIRFLOW_CONN_A=http://u:"+secret+"@h/\n"), 0o600))
	give(t, owner, environment)
	tables := fmt.Sprintf("[environment]\nfile = %q\n", environment) + grant(alice, "*")
	cfg := filepath.Join(s.home, "airflow.cfg")
	ran := filepath.Join(s.dir, "ran")
	for name, text := range map[string]string{
		"the environment file": vaultConfig(server.URL,
			`"auth_type": "jwt", "jwt_role": "r", "jwt_token_path": "`+environment+`"`),
		"the token":   vaultConfig(server.URL, `"auth_type": "token"`),
		"a variable":  vaultConfig(server.URL+"/$VAULT_TOKEN", `"token": "theirs"`),
		"a command":   "[core]\nfernet_key_cmd = touch " + ran + "\n",
		"nothing bad": "[core]\ndefault_impersonation = billing\n",
		"a local file": "[secrets]\n" +
			"backend = airflow.secrets.local_filesystem.LocalFilesystemBackend\n" +
			"backend_kwargs = {\"connections_file_path\": \"" + environment + "\"}\n",
	} {
		must(t, os.WriteFile(cfg, []byte(text), 0o644), os.Chmod(s.home, 0o755))
		give(t, worker, s.home, cfg)
		s.configure("", tables)
		cmd := s.command()
		cmd.Env = append(cmd.Env, "VAULT_TOKEN="+secret)
		code, printed := s.refused(cmd)
		want := fmt.Sprintf("%s: somebody else could change it: %s: it belongs to uid %d", cfg,
			s.home, worker)
		if code != 3 || !strings.Contains(printed, want) || strings.Contains(printed, secret) {
			t.Errorf("%s: exit code %d:\n%s", name, code, printed)
		}
	}
	server.heardNothing(t, "at the start")

	// Nothing but what config.toml asks for is taken from there, and connfs serves.
	must(t, os.WriteFile(cfg, []byte(vaultConfig(server.URL, `"auth_type": "token"`)+
		"[core]\nfernet_key_cmd = touch "+ran+"\n"), 0o644))
	s.configure("airflow_home_settings = [\"default_impersonation\"]", tables)
	d := s.serve("VAULT_TOKEN=" + secret)
	if got := as(t, alice).read(s.file("a")); !strings.Contains(string(got.Data), secret) {
		t.Errorf("read: %q, %d bytes", got.failure(), len(got.Data))
	}
	as(t, alice).fails(s.file("b"), "ENOENT")
	d.stop()
	server.heardNothing(t, "with airflow_home_settings")
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command ran")
	}
}

// The children's user may name a backend, which logs in with what that user has, and not with what
// only root's environment holds.
func TestLoginsOfRootStayWithTheFilesOfRoot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		uid       int
		arguments string
		sent      bool
	}{
		{"root's file", 0, `"auth_type": "token"`, true},
		{"the user's file", owner,
			`"auth_type": "userpass", "username": "u", "password": "theirs"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, server, secret := newSite(t), listen(t), canary()
			cfg := filepath.Join(s.home, "airflow.cfg")
			must(t, os.WriteFile(cfg, []byte(vaultConfig(server.URL, c.arguments)), 0o644),
				os.Chmod(s.home, 0o755))
			give(t, c.uid, s.home, cfg)
			s.configure("", grant(alice, "*"))
			d := s.serve("VAULT_TOKEN="+secret, "VAULT_NAMESPACE="+secret)
			got := as(t, alice).read(s.file("a"))
			if !strings.Contains(string(got.Data), "theirs") {
				t.Errorf("read: %q, %d bytes", got.failure(), len(got.Data))
			}
			if got := server.all(); strings.Contains(got, secret) != c.sent || got == "" {
				t.Errorf("the server was sent:\n%s", got)
			}
			const withheld = "the children do not get VAULT_NAMESPACE, VAULT_TOKEN"
			warned := strings.Contains(d.log(), withheld)
			if warned == c.sent || strings.Contains(d.log(), secret) {
				t.Errorf("the log:\n%s", d.log())
			}
		})
	}
}

// A configuration of somebody else's makes root run nothing, whichever command reads it.
func TestRootObeysNoConfigurationOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ran, program := filepath.Join(s.dir, "ran"), filepath.Join(s.home, "program")
	resolvetest.WriteProgram(t, program, []byte("#!/bin/sh\nid -u >"+ran+"\n"))
	included := s.write("grants.toml", grant(alice, "*"))
	mine := s.write("config.toml", fmt.Sprintf("[secrets]\nbackend = \"exec\"\n"+
		"backend_kwargs = { command = [%q] }\n[audit]\nfile = %q\n%s", program, s.audit,
		grant(alice, "*")))
	give(t, worker, s.home, program, mine, included)
	must(t, os.Chmod(s.home, 0o755), os.Chmod(mine, 0o644))
	for _, c := range []struct{ name, config, want string }{
		{"a file of another's", mine,
			s.home + ": it belongs to uid 5004, and it says what connfs does"},
		{"an include of another's", "", s.home + ": it belongs to uid 5004, and it grants access"},
	} {
		if c.config == "" {
			s.configure(fmt.Sprintf("include = [%q]", included), "")
			c.config = s.config
		}
		for _, arguments := range [][]string{
			{"check"}, {"mount", s.mount}, {"list"}, {"explain", "a"}, {"get", "a"}, {"grants"},
			{"config", "--show-secrets"}, {"seal", "--kms", "main", "--id", "*"},
		} {
			cmd := s.command()
			cmd.Args = append([]string{s.binary, arguments[0], "--config", c.config},
				arguments[1:]...)
			code, printed := s.refused(cmd)
			if code == 0 || !strings.Contains(printed, c.want) {
				t.Errorf("%s: %s: exit code %d:\n%s", c.name, arguments, code, printed)
			}
		}
	}
	if text, err := os.ReadFile(ran); err == nil {
		t.Errorf("its program ran as uid %s", text)
	}
}

// Files that children open are judged each time that they are read.
func TestFilesAreJudgedWheneverTheyAreRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"environment", "local_filesystem"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			dir, secret := filepath.Join(s.dir, "files"), canary()
			file, theirs := filepath.Join(dir, "a.env"), filepath.Join(dir, "theirs.env")
			must(t, os.Mkdir(dir, 0o755))
			line := "AIRFLOW_CONN_A=http://u:%s@h/\n"
			tables := fmt.Sprintf("[environment]\nfile = %q\n", file)
			if name == "local_filesystem" {
				line = "a=http://u:%s@h/\n"
				tables = fmt.Sprintf("[secrets]\nbackend = %q\n"+
					"backend_kwargs = { connections_file_path = %q }\n", name, file)
			}
			put := func(path string, uid int, mode os.FileMode, secret string) {
				text := fmt.Sprintf(line, secret)
				must(t, os.WriteFile(path+".new", []byte(text), 0o600), os.Chmod(path+".new", mode),
					os.Chown(path+".new", uid, uid), os.Rename(path+".new", path))
			}
			put(file, owner, 0o600, secret)
			s.configure("ttl = \"0s\"\nepoch = \"1h\"", tables+grant(alice, "*"))
			d := s.serve()
			a := as(t, alice)
			works := func() {
				t.Helper()
				eventually(t, "the connection can be read", func() bool {
					return strings.Contains(string(a.read(d.file("a")).Data), secret)
				})
			}
			works()

			for what, spoil := range map[string]func(){
				"it is another's":     func() { put(file, worker, 0o644, "theirs") },
				"all may write to it": func() { put(file, owner, 0o666, "theirs") },
				"it is a link of another's": func() {
					put(theirs, owner, 0o600, "theirs")
					must(t, os.Remove(file), os.Symlink(theirs, file))
					give(t, worker, file)
				},
				"its directory is another's": func() {
					give(t, worker, dir)
					put(file, owner, 0o600, "theirs")
				},
				"all may write to its directory": func() {
					must(t, os.Chmod(dir, 0o777))
					put(file, owner, 0o600, "theirs")
				},
			} {
				spoil()
				if got := a.read(d.file("a")); got.failure() != "EACCES" || len(got.Data) > 0 {
					t.Errorf("%s: %q, %s", what, got.failure(), got.Data)
				}
				give(t, 0, dir)
				must(t, os.Chmod(dir, 0o755))
				put(file, owner, 0o600, secret)
				works()
			}
		})
	}
}

// SQLite opens its files by their names. So the database and its directory must be root's or the
// children's, and nobody else may write to them.
func TestSQLiteDatabasesOfOthersAreNotRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	url := s.sqliteMetastore(rows(t, newKey(t), []string{"", ""}))
	db := strings.TrimPrefix(url, "sqlite:///")
	dir := filepath.Dir(db)
	s.configure("ttl = \"0s\"", fmt.Sprintf("[metastore]\nurl = %q\n", url)+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	works := func() {
		t.Helper()
		eventually(t, "the row can be read", func() bool {
			got := a.read(d.file("m1"))
			return got.failure() == ""
		})
	}
	works()
	for _, c := range []struct {
		what        string
		spoil, mend func() error
	}{
		{"all may write to it", func() error { return os.Chmod(db, 0o666) },
			func() error { return os.Chmod(db, 0o644) }},
		{"it is the worker's", func() error { return os.Chown(db, worker, worker) },
			func() error { return os.Chown(db, owner, owner) }},
		{"all may write to its directory", func() error { return os.Chmod(dir, 0o777) },
			func() error { return os.Chmod(dir, 0o755) }},
		{"all may make files beside it",
			func() error { return os.Chmod(dir, 0o777|os.ModeSticky) },
			func() error { return os.Chmod(dir, 0o755) }},
		{"its directory is the worker's", func() error { return os.Chown(dir, worker, worker) },
			func() error { return os.Chown(dir, owner, owner) }},
	} {
		must(t, c.spoil())
		if got := a.read(d.file("m1")); got.failure() != "EACCES" || len(got.Data) > 0 {
			t.Errorf("%s: %q, %s", c.what, got.failure(), got.Data)
		}
		must(t, c.mend())
		works()
	}
}

// Who could put another file in the place of the audit's would have root write to it.
func TestTheAuditIsWrittenWhereOnlyRootCan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(s *site, dir string) error // makes dir, where the audit file is to be
		want string                          // "": it serves
	}{
		{"root's", func(_ *site, dir string) error { return os.Mkdir(dir, 0o755) }, ""},
		{"a group's, as Ubuntu's /var/log", func(_ *site, dir string) error {
			return errors.Join(os.Mkdir(dir, 0o775), os.Chmod(dir, 0o775), os.Chown(dir, 0, worker))
		}, ""},
		{"the worker's", func(_ *site, dir string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, worker, worker))
		}, "it belongs to uid 5004"},
		{"the children's", func(_ *site, dir string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, owner, owner))
		}, "it belongs to uid 5003"},
		{"everybody's", func(_ *site, dir string) error {
			return errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777))
		}, "others can write to it"},
		{"a link of the worker's", func(s *site, dir string) error {
			return errors.Join(os.Mkdir(s.dir+"/logs", 0o755), os.Symlink(s.dir+"/logs", dir),
				os.Lchown(dir, worker, worker))
		}, "it belongs to uid 5004"},
		{"a file of the worker's", func(_ *site, dir string) error {
			file := filepath.Join(dir, "audit.jsonl")
			return errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777|os.ModeSticky),
				os.WriteFile(file, nil, 0o644), os.Chown(file, worker, worker))
		}, "it belongs to uid 5004"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			dir := filepath.Join(s.dir, "log")
			must(t, c.make(s, dir))
			s.audit = filepath.Join(dir, "audit.jsonl")
			s.configure("", s.environment("AIRFLOW_CONN_A=http://h/")+grant(alice, "*"))
			if c.want == "" {
				s.serve()
				return
			}
			code, printed := s.refused(s.command())
			if code == 0 || !strings.Contains(printed, "opening the audit file "+s.audit+
				": somebody else could change it: ") || !strings.Contains(printed, c.want) {
				t.Errorf("exit code %d:\n%s", code, printed)
			}
		})
	}
}
