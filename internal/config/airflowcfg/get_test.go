package airflowcfg_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config/airflowcfg"
	"github.com/connfs/connfs/internal/trust"
)

// hidden is a secret that no message may show.
const hidden = "hunter2"

func open(t *testing.T, cfg string, env ...string) *airflowcfg.Config {
	t.Helper()
	home := t.TempDir()
	write(t, filepath.Join(home, "airflow.cfg"), cfg, 0o600)
	env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}, env...)
	c, err := airflowcfg.Open(home, "", env, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// getOption reads "section.option".
func getOption(t *testing.T, c *airflowcfg.Config, name string) (airflowcfg.Value, error) {
	t.Helper()
	section, option, _ := strings.Cut(name, ".")
	return c.Get(context.Background(), section, option)
}

func TestOrigins(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg    string
		env    string
		option string
		text   string
		origin string // FILE is the file
		set    bool
		old    string
	}{
		"file": {
			"[core]\n\nfernet_key = k\n", "", "core.fernet_key", "k", "FILE:3", true, "",
		},
		"variable": {
			"[core]\nfernet_key = k\n", "AIRFLOW__CORE__FERNET_KEY=v", "core.fernet_key", "v",
			"variable AIRFLOW__CORE__FERNET_KEY", true, "",
		},
		"variable command": {
			"", "AIRFLOW__CORE__FERNET_KEY_CMD=echo v", "core.fernet_key", "v\n",
			"command of variable AIRFLOW__CORE__FERNET_KEY_CMD", true, "",
		},
		"file command": {
			"[core]\nfernet_key_cmd = printf '%%s' v\n", "", "core.fernet_key", "v",
			"command of FILE:2", true, "",
		},
		"file secret": {
			"[core]\nfernet_key_secret = there\n", "", "core.fernet_key", "s", "secret of FILE:2",
			true, "",
		},
		"no such secret": {
			"[core]\nfernet_key_secret = not there\n", "", "core.fernet_key", "", "default", false,
			"",
		},
		"default": {"", "", "core.fernet_key", "", "default", false, ""},
		"old name": {
			"[core]\nsql_alchemy_conn = sqlite:////a.db\n", "", "database.sql_alchemy_conn",
			"sqlite:////a.db", "FILE:2", true, "[core] sql_alchemy_conn",
		},
		"old name of a variable beats the file": {
			"[database]\nsql_alchemy_schema = new\n", "AIRFLOW__CORE__SQL_ALCHEMY_SCHEMA=old",
			"database.sql_alchemy_schema", "old",
			"variable AIRFLOW__CORE__SQL_ALCHEMY_SCHEMA", true, "[core] sql_alchemy_schema",
		},
		"old value beats the new command": {
			"[core]\nsql_alchemy_conn = sqlite:////a.db\n[database]\nsql_alchemy_conn_cmd = " +
				"no-such-program\n",
			"", "database.sql_alchemy_conn", "sqlite:////a.db",
			"FILE:2", true, "[core] sql_alchemy_conn",
		},
		"inherited": {
			"[DEFAULT]\nfernet_key = d\n[core]\n", "", "core.fernet_key", "d", "FILE:2", true, "",
		},
		"a section that is not there inherits nothing": {
			"[DEFAULT]\nfernet_key = d\n", "", "core.fernet_key", "", "default", false, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, tc.cfg, tc.env)
			c.Secret = func(key string) (string, bool, error) { return "s", key == "there", nil }
			got, err := getOption(t, c, tc.option)
			if err != nil {
				t.Fatal(err)
			}
			file, _ := c.File()
			if got.Text != tc.text || got.Set != tc.set || got.Deprecated != tc.old {
				t.Errorf("got %q, set %v, old name %q; want %q, %v, %q",
					got.Text, got.Set, got.Deprecated, tc.text, tc.set, tc.old)
			}
			if want := strings.ReplaceAll(tc.origin, "FILE", file); got.Origin.String() != want {
				t.Errorf("origin is %q, want %q", got.Origin, want)
			}
		})
	}
}

func TestErrorsSayWhereAndShowNoValue(t *testing.T) {
	for name, tc := range map[string]struct{ cfg, env, want string }{
		"lone percent": {
			"[core]\nfernet_key = hunter2%x\n", "",
			"[core] fernet_key: FILE:2: a lone % must be written %%",
		},
		"unknown reference": {
			"[core]\nfernet_key = %(hunter2)s\n", "",
			"[core] fernet_key: FILE:2: a %(name)s refers to an option that this section does " +
				"not have",
		},
		"bad reference": {
			"[core]\nfernet_key = %(hunter2)\n", "",
			"[core] fernet_key: FILE:2: a reference is not written %(name)s",
		},
		"endless reference": {
			"[core]\nfernet_key = hunter2%(fernet_key)s\n", "",
			"[core] fernet_key: FILE:2: references are nested more than 10 deep",
		},
		"growing reference": {
			"[core]\nfernet_key = %(a)s%(a)s%(a)s%(a)s%(a)s%(a)s\na = %(b)s%(b)s%(b)s%(b)s%(b)s" +
				"%(b)s\nb = %(c)s%(c)s%(c)s%(c)s%(c)s%(c)s\nc = %(d)s%(d)s%(d)s%(d)s%(d)s%(d)s\n" +
				"d = %(e)s%(e)s%(e)s%(e)s%(e)s%(e)s\ne = %(f)s%(f)s%(f)s%(f)s%(f)s%(f)s\nf =\n",
			"",
			"[core] fernet_key: FILE:2: the references in it make it too long",
		},
		"endless expansion": {
			"", "AIRFLOW__CORE__FERNET_KEY=hunter2$AIRFLOW__CORE__FERNET_KEY",
			"[core] fernet_key: variable AIRFLOW__CORE__FERNET_KEY: the $NAME references in it " +
				"refer to themselves without end",
		},
		"no such program": {
			"[core]\nfernet_key_cmd = no-such-program hunter2\n", "",
			`[core] fernet_key: command of FILE:2: the command "no-such-program" is not in PATH`,
		},
		"no such path": {
			"[core]\nfernet_key_cmd = /no/such/program hunter2\n", "",
			`[core] fernet_key: command of FILE:2: the command "/no/such/program" could not be ` +
				`run: no such file or directory`,
		},
		"open quotation": {
			"", "AIRFLOW__CORE__FERNET_KEY_CMD=echo 'hunter2",
			"[core] fernet_key: command of variable AIRFLOW__CORE__FERNET_KEY_CMD: a quotation " +
				"is not closed",
		},
		"failing command": {
			"", "AIRFLOW__CORE__FERNET_KEY_CMD=sh -c 'echo hunter2; echo hunter2 >&2; exit 3'",
			`[core] fernet_key: command of variable AIRFLOW__CORE__FERNET_KEY_CMD: the command ` +
				`"sh" ended with exit status 3`,
		},
		"endless output": {
			"",
			"AIRFLOW__CORE__FERNET_KEY_CMD=sh -c 'while :; do echo hunter2hunter2hunter2; done'",
			`[core] fernet_key: command of variable AIRFLOW__CORE__FERNET_KEY_CMD: the command ` +
				`"sh" printed more than 1048576 bytes`,
		},
		"failing backend": {
			"[core]\nfernet_key_secret = hunter2\n", "",
			"[core] fernet_key: secret of FILE:2: the backend is down",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, tc.cfg, tc.env)
			c.Secret = func(string) (string, bool, error) {
				return "", false, errors.New("the backend is down")
			}
			_, err := getOption(t, c, "core.fernet_key")
			if err == nil {
				t.Fatal("got a value")
			}
			file, _ := c.File()
			want := strings.ReplaceAll(tc.want, "FILE", file)
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if strings.Contains(err.Error(), hidden) {
				t.Error("the message shows a secret")
			}
		})
	}
}

func TestFilesThatStopTheStart(t *testing.T) {
	for name, tc := range map[string]struct{ cfg, want string }{
		"byte order mark": {
			"\ufeff[core]\n",
			":1: the file begins with a UTF-8 byte order mark, which Airflow refuses",
		},
		"not UTF-8": {"[core]\nx = hunter2\xff\n", ":2: the line is not UTF-8"},
		"option twice": {
			"[core]\nx = 1\n\nx = hunter2\n", `:4: option "x" is set a second time`,
		},
		"section twice": {
			"[core]\n[a]\n[core]\n", ":3: section [core] is defined a second time",
		},
		"before a section": {"# comment\nx = hunter2\n", ":2: text before the first [section]"},
		"stray line": {
			"[core]\nhunter2\n",
			":2: the line is neither a section, an option, a comment nor the indented " +
				"continuation of a value",
		},
		"option of no name": {
			"[core]\n= hunter2\n",
			":2: the line is neither a section, an option, a comment nor the indented " +
				"continuation of a value",
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "airflow.cfg")
			write(t, file, tc.cfg, 0o600)
			_, err := airflowcfg.Open("", file, nil, nil)
			if err == nil {
				t.Fatal("the file is read")
			}
			if diff := cmp.Diff(file+tc.want, err.Error()); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandGetsNothingButItsOwnEnvironment(t *testing.T) {
	t.Setenv("OF_THE_PROCESS", "1")
	home := t.TempDir()
	write(t, filepath.Join(home, "airflow.cfg"), "[core]\nfernet_key_cmd = env\n", 0o600)
	c, err := airflowcfg.Open(home, "", []string{
		"HOME=/h", "PATH=" + os.Getenv("PATH"), "AIRFLOW_HOME=/elsewhere", "AIRFLOW__CORE__X=1",
		"AWS_SECRET_ACCESS_KEY=k", "NOTIFY_SOCKET=/run/n",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := getOption(t, c, "core.fernet_key")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(got.Text), "\n") {
		name, value, _ := strings.Cut(line, "=")
		names[name] = value
	}
	want := map[string]string{
		"HOME": "/h", "PATH": os.Getenv("PATH"), "AIRFLOW_HOME": home, "AIRFLOW__CORE__X": "1",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// A process that the command leaves in the background must not delay the start.
func TestCommandEndsWithItsContext(t *testing.T) {
	c := open(t, "[core]\nfernet_key_cmd = sh -c 'sleep 60 & sleep 60'\n")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := c.Get(ctx, "core", "fernet_key"); err == nil {
		t.Error("the command answered")
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestFileOfOthersIsRefused(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "airflow.cfg")
	owners := &trust.Owners{OwnerOf: func(path string) uint32 {
		if path == home {
			return 5001
		}
		return 0
	}}
	for _, made := range []bool{false, true} {
		if made {
			write(t, file, "[core]\nfernet_key = x\n", 0o600)
		}
		_, err := airflowcfg.Open(home, "", nil, owners)
		var untrusted *trust.Error
		if !errors.As(err, &untrusted) || untrusted.Path != file || untrusted.At != home {
			t.Errorf("the file is there: %v; got %v", made, err)
		}
	}
}

// Neither a command nor a default nor another option of the file counts.
func TestOnlyWhatIsAskedForCounts(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	c := open(t, "[core]\nfernet_key_cmd = touch "+ran+"\ndefault_impersonation = billing\n"+
		"[database]\nsql_alchemy_conn_secret = there\n[secrets]\nbackend = a.b\n")
	c.Only = func(section, option string) bool {
		return section+"."+option == "core.default_impersonation"
	}
	c.Secret = func(string) (string, bool, error) { return "sqlite:////theirs.db", true, nil }
	for option, want := range map[string]string{
		"core.fernet_key": "", "core.default_impersonation": "billing",
		"database.sql_alchemy_conn": "", "secrets.backend": "",
	} {
		if got, err := getOption(t, c, option); err != nil || got.Text != want {
			t.Errorf("%s: %q, %v, want %q", option, got.Text, err, want)
		}
	}
	if _, err := os.Stat(ran); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the command ran")
	}
}

func TestOpenWithoutAFile(t *testing.T) {
	home := t.TempDir()
	c, err := airflowcfg.Open(home, "", []string{"HOME=/h"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if file, info := c.File(); file != "" || info != nil {
		t.Errorf("read %q", file)
	}
	got, err := getOption(t, c, "database.sql_alchemy_conn")
	if err != nil || got.Text != "sqlite:///"+home+"/airflow.db" || got.Set {
		t.Errorf("got %q, set %v, %v", got.Text, got.Set, err)
	}

	c, err = airflowcfg.Open("", "", []string{"AIRFLOW_CONFIG=/nonexistent"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := getOption(t, c, "database.sql_alchemy_conn"); err != nil || got.Text != "" {
		t.Errorf("without a home: got %q, %v", got.Text, err)
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	if _, err := airflowcfg.Open("", t.TempDir(), nil, nil); err == nil {
		t.Error("a directory is read")
	}
	fifo := filepath.Join(t.TempDir(), "airflow.cfg")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := airflowcfg.Open("", fifo, nil, nil); err == nil {
		t.Error("a FIFO is read")
	}
}
