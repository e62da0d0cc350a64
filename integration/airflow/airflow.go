// Package airflow lets tests ask real Airflow: what it stores, what it reads
// back, and what a connection's text means to it. Each call is one Python
// process in a virtual environment that scripts/setup made.
package airflow

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The Airflows that scripts/setup installs, as arguments of the functions below.
const (
	V2    = "2.10.5"
	V3    = "3.3.2"
	V3SDK = "3.3.2-sdk" // as a task of 3.3.2 reads, with the Task SDK's own Connection
)

// limit is how long one Python process may take.
const limit = 3 * time.Minute

//go:embed write.py read.py provider.py sealed.py sealedweb.py localfiles.py fields.py
var programs embed.FS

// Connection is what Airflow is told to store. A nil field is null; Extra is
// text, as in the model.
type Connection struct {
	ID          string  `json:"conn_id"`
	ConnType    *string `json:"conn_type,omitempty"`
	Description *string `json:"description,omitempty"`
	Host        *string `json:"host,omitempty"`
	Login       *string `json:"login,omitempty"`
	Password    *string `json:"password,omitempty"`
	Schema      *string `json:"schema,omitempty"`
	Port        *int64  `json:"port,omitempty"`
	Extra       *string `json:"extra,omitempty"`
	URI         *string `json:"uri,omitempty"` // instead of the other fields
}

// Value is a text that a string backend, such as the environment, holds for an
// id. It need not be UTF-8, but the environment cannot hold a NUL.
type Value struct {
	ID    string `json:"id"`
	Value []byte `json:"value"`
}

// Answer is what Airflow's own look-up says about one id.
type Answer struct {
	ID string `json:"id"`
	// Error is Python's exception, as "Type: text", where there is no such
	// connection to Airflow. Airflow says "isn't defined" of a connection that it
	// cannot read, too; Cause is then what it does not say.
	Error string `json:"error"`
	Cause string `json:"cause"`
	// Fields are conn_type, description, host, login, password, schema, port and
	// extra, always all of them: nil, a string, a json.Number that is an integer
	// or, for what Airflow took over and no field should hold (a lone surrogate, a
	// list), a map. Extra is the stored text.
	Fields map[string]any `json:"fields"`
	// URI is Airflow's get_uri of it.
	URI string `json:"uri"`
	// Dejson is the extra, decoded and then written by Python's json.dumps. It is nil if
	// there is no extra, or it is not JSON.
	Dejson *string `json:"dejson"`
	// Python3114 is what Airflow answers where its Python checks the brackets of a
	// URI as Python 3.11.4 does, if that is another answer.
	Python3114 *Answer `json:"python_3_11_4"`
	// Value is the text that the backend holds, where [Provider] asked; nil: none.
	Value []byte `json:"value"`
}

// Venv returns the virtual environment of an Airflow. The test fails where
// scripts/setup has not made it.
func Venv(t testing.TB, version string) string {
	t.Helper()
	if version == V3SDK {
		version = V3
	}
	cache := os.Getenv("CONNFS_TEST_CACHE")
	if cache == "" {
		cache = "/opt/connfs-test"
	}
	dir := filepath.Join(cache, "airflow-"+version)
	if _, err := os.Stat(filepath.Join(dir, "bin", "python")); err != nil {
		t.Fatalf("Airflow %s is not installed (%v): run scripts/setup", version, err)
	}
	return dir
}

// Write makes a metastore of that version in the directory home, which then has
// an airflow.cfg too, so that connfs can be given it as its airflow home. The
// connections are stored through Airflow's own model with fernetKey ("" for
// none). The answers, in the order of conns, tell how that Airflow reads back
// what it stored, or why it refused to store it.
func Write(t testing.TB, version, home, fernetKey string, conns []Connection) []Answer {
	t.Helper()
	cfg := fmt.Sprintf(
		"[core]\nfernet_key = %s\nload_examples = False\n[database]\nsql_alchemy_conn = "+
			"sqlite:///%s/airflow.db\nload_default_connections = False\n",
		fernetKey, home,
	)
	if err := os.WriteFile(filepath.Join(home, "airflow.cfg"), []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	return ask(t, version, home, "write.py", conns)
}

// Read puts each value into AIRFLOW_CONN_<ID> of a process of that version and
// returns what its look-up of the id gives, in the order of values.
func Read(t testing.TB, version string, values []Value) []Answer {
	t.Helper()
	return ask(t, version, t.TempDir(), "read.py", values)
}

// Sealed looks at connections that are sealed in the metastore under home, which Write
// made, with Airflow's own commands: list, get, export and rotate-fernet-key. It also
// changes their description, and stores their extra anew, as its UI does. Fields are
// what it shows of each.
func Sealed(t testing.TB, version, home string, ids []string) []Answer {
	t.Helper()
	return askIDs(t, version, home, "sealed.py", ids)
}

// SealedWeb looks at the same with Airflow's web server, in one process and without a
// socket: the list, its REST API and, in 2.x, its edit form. Each saves what it showed: the
// API with the description "by-api", the form with the host "by-form"; then the API takes
// out of the extra what the form added. Fields are, under api_ and form_, the extra that
// was shown, and host, description, password and extra of the row after the save.
func SealedWeb(t testing.TB, version, home string, ids []string) []Answer {
	t.Helper()
	return askIDs(t, version, home, "sealedweb.py", ids)
}

// askIDs asks a question for each id.
func askIDs(t testing.TB, version, home, program string, ids []string) []Answer {
	t.Helper()
	questions := make([]map[string]string, len(ids))
	for i, id := range ids {
		questions[i] = map[string]string{"id": id}
	}
	return ask(t, version, home, program, questions)
}

// LocalFile is a question about a file of connections, whose name says how it is written.
type LocalFile struct {
	Name    string `json:"name"`
	Content []byte `json:"content"`
	ID      string `json:"id"`
}

// ReadLocalFiles returns what the LocalFilesystemBackend of that version says about each
// question. If it has no such connection, Error is "absent".
func ReadLocalFiles(t testing.TB, version string, questions []LocalFile) []Answer {
	t.Helper()
	return ask(t, version, t.TempDir(), "localfiles.py", questions)
}

// ask runs one of the programs with the questions as JSON lines on its standard
// input, and decodes as many answers.
func ask[Q any](t testing.TB, version, home, program string, questions []Q) []Answer {
	t.Helper()
	python := filepath.Join(Venv(t, version), "bin", "python")
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, q := range questions {
		if err := enc.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	code := t.TempDir()
	for _, name := range []string{program, "fields.py"} {
		b, err := programs.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(code, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), python, filepath.Join(code, program))
	if version == V3SDK {
		cmd.Args = append(cmd.Args, "--sdk")
	}
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + home, "AIRFLOW_HOME=" + home, "LANG=C.UTF-8",
		"PYTHONWARNINGS=ignore", "PYTHONDONTWRITEBYTECODE=1",
		"AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False",
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &errs
	cmd.WaitDelay = time.Second
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Run()
	if !timer.Stop() {
		t.Fatalf("Airflow %s, %s: no end within %v\n%s", version, program, limit,
			tail(errs.Bytes()))
	}
	if err != nil {
		t.Fatalf("Airflow %s, %s: %v\n%s", version, program, err, tail(errs.Bytes()))
	}
	answers, err := decode(&out)
	if err != nil || len(answers) != len(questions) {
		t.Fatalf("Airflow %s, %s: %d answers to %d questions, %v\n%s", version, program,
			len(answers), len(questions), err, tail(errs.Bytes()))
	}
	return answers
}

func decode(r io.Reader) ([]Answer, error) {
	var out []Answer
	dec := json.NewDecoder(bufio.NewReader(r))
	dec.UseNumber()
	for {
		var a Answer
		if err := dec.Decode(&a); err == io.EOF {
			return out, nil
		} else if err != nil {
			return out, err
		}
		out = append(out, a)
	}
}

// tail returns the end of what a program printed.
func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }
