package environment_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/environment"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// variables writes connections as Airflow's environment holds them.
func variables(t *testing.T, connections map[string]*conn.Connection) (lines, ids []string) {
	t.Helper()
	for id, c := range connections {
		text, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, conn.EnvName(id)+"="+strings.TrimSuffix(string(text), "\n"))
		ids = append(ids, id)
	}
	return lines, ids
}

func TestConforms(t *testing.T) {
	missing := func(t *testing.T) backend.Backend {
		return environment.New(environment.Settings{File: filepath.Join(t.TempDir(), "missing")})
	}
	t.Run("variables", func(t *testing.T) {
		resolvetest.Run(t, resolvetest.Harness{Unreachable: missing,
			New: func(t *testing.T, c map[string]*conn.Connection) backend.Backend {
				lines, ids := variables(t, c)
				return environment.New(environment.Settings{Variables: environment.Variables(lines),
					Spellings: ids})
			}})
	})
	t.Run("file", func(t *testing.T) {
		resolvetest.Run(t, resolvetest.Harness{Unreachable: missing,
			New: func(t *testing.T, c map[string]*conn.Connection) backend.Backend {
				lines, ids := variables(t, c)
				file := writeFile(t, strings.Join(lines, "\n"))
				return environment.New(environment.Settings{File: file, Spellings: ids})
			}})
	})
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "connections.env")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileFormat(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "AIRFLOW_CONN_X=http://h", "h"},
		{"carriage return", "AIRFLOW_CONN_X=http://h\r\nAIRFLOW_CONN_Y=http://y\r\n", "h"},
		{"export", "export \tAIRFLOW_CONN_X=http://h", "h"},
		{"double quotes", `AIRFLOW_CONN_X="http://h"`, "h"},
		{"single quotes", `AIRFLOW_CONN_X='http://h'`, "h"},
		{"JSON", `AIRFLOW_CONN_X={"conn_type":"http","host":"h # no comment"}`, "h # no comment"},
		{"quoted JSON, no escapes", `AIRFLOW_CONN_X='{"conn_type":"http","host":"it's"}'`, "it's"},
		{"blanks around line and value", " \tAIRFLOW_CONN_X= \"http://h\" \t", "h"},
		{"comments, empty lines and other variables",
			"# AIRFLOW_CONN_X=http://no\n\n  # x\nPATH=/bin\nA=\nAIRFLOW_CONN_X=http://h\n", "h"},
		{"the last one counts", "AIRFLOW_CONN_X=http://no\nAIRFLOW_CONN_X=http://h", "h"},
		{"no expansion", "AIRFLOW_CONN_X=http://$HOME", "$home"},
		{"byte order mark", "\ufeffAIRFLOW_CONN_X=http://h", "h"},
		{"equals signs in the value", "AIRFLOW_CONN_X=http://h/?a=b=c", "h"},
	} {
		e := environment.New(environment.Settings{File: writeFile(t, c.text)})
		got, err := e.Connection(t.Context(), "x")
		if err != nil || resolvetest.HostOf(got) != c.want {
			t.Errorf("%s: host %q, %v", c.name, resolvetest.HostOf(got), err)
		}
	}
}

func TestFailuresAreNamedAndShowNothing(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file string
		kind       conn.Kind
		want       string
	}{
		{"no equals sign", writeFile(t, "# x\nAIRFLOW_CONN_X=http://h\nhunter2\n"), conn.Invalid,
			":3: not a NAME=value line"},
		{"blank in the name", writeFile(t, "AIRFLOW_CONN_X =hunter2"), conn.Invalid,
			":1: not a NAME=value line"},
		{"no name", writeFile(t, "=hunter2"), conn.Invalid, ":1: not a NAME=value line"},
		{"open quotation", writeFile(t, "AIRFLOW_CONN_X=\"hunter2\n"), conn.Invalid,
			":1: the value begins with a quotation mark and does not end with it"},
		{"one quotation mark", writeFile(t, "AIRFLOW_CONN_X='"), conn.Invalid,
			":1: the value begins with a quotation mark and does not end with it"},
		{"missing", filepath.Join(dir, "missing"), conn.Unreachable, ": no such file or directory"},
		{"a directory", dir, conn.Unreachable, " is not a regular file"},
		{"a FIFO", fifo, conn.Unreachable, " is not a regular file"},
		{"not a connection", writeFile(t, `AIRFLOW_CONN_X={"host": hunter2`), conn.Invalid, ""},
		{"blank", writeFile(t, "AIRFLOW_CONN_X=' '"), conn.Invalid, ""},
		{"empty", writeFile(t, "AIRFLOW_CONN_X="), conn.Absent, ""},
		{"quoted empty", writeFile(t, "AIRFLOW_CONN_X=''"), conn.Absent, ""},
	} {
		e := environment.New(environment.Settings{File: c.file})
		_, err := e.Connection(t.Context(), "x")
		if conn.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %v with %q", c.name, err, c.kind, c.want)
		}
		if c.want != "" && !strings.Contains(err.Error(), c.file) {
			t.Errorf("%s: %v does not name the file", c.name, err)
		}
	}
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	path := writeFile(t, "AIRFLOW_CONN_X=http://first")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	e := environment.New(environment.Settings{File: path})
	check := func(step, want string) {
		t.Helper()
		if got, err := e.Connection(t.Context(), "x"); resolvetest.HostOf(got) != want {
			t.Errorf("%s: host %q, %v; want %q", step, resolvetest.HostOf(got), err, want)
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check("at first", "first")
	check("once more", "first")
	write(path, "AIRFLOW_CONN_X=http://other") // same size, written at once
	check("written in place", "other")
	write(path+".new", "AIRFLOW_CONN_X=http://third")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	check("replaced", "third")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Unreachable {
		t.Errorf("removed: %v", err)
	}
	write(path, "AIRFLOW_CONN_X=http://again")
	check("back", "again")
}

func TestListsSpellings(t *testing.T) {
	e := environment.New(environment.Settings{
		Variables: environment.Variables([]string{
			"AIRFLOW_CONN_MY_DB=http://h", "AIRFLOW_CONN_BILLING.DB=http://h",
			"AIRFLOW_CONN_EMPTY=", "AIRFLOW_CONN_small=http://h",
			"AIRFLOW_VAR_X=1", "PATH=/bin", "AIRFLOW_CONN_STRASSE=http://h",
		}),
		Spellings: []string{"Billing.DB", "BILLING.db", "Billing.DB", "nothing", "Straße"},
	})
	got, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"BILLING.db", "Billing.DB", "Straße", "my_db"}, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	for _, id := range got {
		if _, err := e.Connection(t.Context(), id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	// What is not listed does not answer: who may read an id is decided by its spelling.
	for _, id := range []string{
		"empty", "small", "", "MY_db", "MY_DB", "billing.db", "BILLING.DB", "strasse", "STRASSE",
	} {
		if _, err := e.Connection(t.Context(), id); conn.KindOf(err) != conn.Absent {
			t.Errorf("%q: %v, want absent", id, err)
		}
	}
}

func TestAnotherSpellingOfAnIDIsAbsent(t *testing.T) {
	e := environment.New(environment.Settings{
		Variables: environment.Variables([]string{"AIRFLOW_CONN_PAYROLL=http://h"}),
	})
	_, err := e.Connection(t.Context(), "Payroll")
	const want = `environment: absent: AIRFLOW_CONN_PAYROLL has the id "payroll", and ids are ` +
		`compared byte for byte (a variable has the id of lower case, or the one that a ` +
		`[[grant]] spells)`
	if conn.KindOf(err) != conn.Absent || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
