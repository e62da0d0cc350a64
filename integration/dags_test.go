//go:build integration

package integration_test

import (
	"database/sql"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// uids of the tests of derived grants: the first is the "#1234" of the DAG numeric_user
// in metastores that real Airflow wrote.
const (
	dagUser = 1234
	noUser  = 1235
)

// dagFile is the content of their one file.
const dagFile = `{"conn_type":"http","description":null,"host":"h","login":null,"password":null,"schema":"","port":null,"extra":null}` + "\n"

// derivedSite serves one connection to the DAG numeric_user, whose users stand in the
// metastore of an Airflow version.
func derivedSite(t *testing.T, version, keys, grants string) *site {
	t.Helper()
	s := newSite(t)
	text, err := os.ReadFile(filepath.Join("../internal/dags/testdata", version, "airflow.db"))
	must(t, err)
	s.write("airflow.db", string(text))
	s.configure("ttl = \"1s\"\nnegative_ttl = \"0s\"\non_error = \"next\"",
		s.environment("AIRFLOW_CONN_X=http://h/")+"[metastore]\n"+keys+"\n"+grants)
	return s
}

const numericGrant = "[[grant]]\ndag = \"numeric_*\"\nconnections = [\"x\"]\n"

// change runs a statement on the site's metastore.
func (s *site) change(statement string) {
	s.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.home, "airflow.db"))
	must(s.t, err)
	defer db.Close()
	_, err = db.Exec(statement)
	must(s.t, err)
}

func TestAGrantThatNamesADAGIsForTheUsersOfItsTasks(t *testing.T) {
	for version, gone := range map[string]string{
		"2.10": "UPDATE dag SET is_active = 0 WHERE dag_id = 'numeric_user'",
		"3.3":  "UPDATE dag SET is_stale = 1 WHERE dag_id = 'numeric_user'",
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := derivedSite(t, version, `dags_every = "1s"`, numericGrant)
			d := s.serve()
			granted, other, root := as(t, dagUser), as(t, noUser), as(t, 0)
			granted.reads(s.file("x"), dagFile)
			other.fails(s.file("x"), "EACCES")
			root.fails(s.file("x"), "EACCES")
			if r := granted.do(request{Op: "open", Path: s.file("x")}); r.failure() != "" {
				t.Fatal(r.failure())
			}
			eventually(t, "an audit line that names the DAG and the rule", func() bool {
				return len(s.auditLines(`"dags":"numeric_user"`, `"run_as_user":"#1234"`,
					`config.toml:`, `"allowed":true`)) > 0
			})

			// A DAG that is gone takes its grants along, of open files too.
			s.change(gone)
			eventually(t, "a refusal, since the DAG is gone", func() bool {
				return granted.read(s.file("x")).Errno == "EACCES"
			})
			if r := granted.do(request{Op: "pread", Path: s.file("x")}); r.Errno != "EACCES" {
				t.Errorf("an open file reads on: %+v", r)
			}
			if strings.Contains(d.log(), "panic") {
				t.Error("the daemon panicked")
			}
		})
	}
}

func TestGrantsOfDAGsHoldWhileTheMetastoreIsDownButNotForEver(t *testing.T) {
	t.Parallel()
	s := derivedSite(t, "2.10", "dags_every = \"1s\"\ndags_keep = \"4s\"", numericGrant)
	d := s.serve()
	granted := as(t, dagUser)
	granted.reads(s.file("x"), dagFile)
	db := filepath.Join(s.home, "airflow.db")
	must(t, os.Rename(db, db+".away"))
	d.await("the users known from them stay")
	granted.reads(s.file("x"), dagFile)
	d.await("for as long as dags_keep")
	eventually(t, "a refusal, since the last answer is too old", func() bool {
		return granted.read(s.file("x")).Errno == "EACCES"
	})
	must(t, os.Rename(db+".away", db))
	eventually(t, "a read, since the metastore is back", func() bool {
		return granted.read(s.file("x")).Errno == ""
	})
}

// A metastore that takes connections and answers nothing holds up neither the start, nor
// a reload that revokes, nor the end.
func TestASilentMetastoreHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	silent := fmt.Sprintf("[metastore]\nurl = \"postgresql://u:p@127.0.0.1:%d/airflow?sslmode=disable\"\ndags_every = \"1s\"\n", blackHole(t))
	environment := s.environment("AIRFLOW_CONN_X=http://h/") + numericGrant
	s.configure("timeout = \"1s\"", silent+environment+grant(alice, "x"))
	began := time.Now()
	d := s.serve()
	as(t, alice).reads(s.file("x"), dagFile)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it served after %v", took)
	}
	s.configure("timeout = \"1s\"", silent+environment+grant(bob, "x"))
	began = time.Now()
	d.reload("connfs: reloaded")
	as(t, alice).fails(s.file("x"), "EACCES")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it was reloaded after %v", took)
	}
	began = time.Now()
	if code := d.stop(); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("it stopped with exit code %d after %v", code, time.Since(began))
	}
}

// A hostile document can neither grant what it may not nor take others' grants away.
func TestHostileDocumentsLoseOnlyThemselves(t *testing.T) {
	t.Parallel()
	s := derivedSite(t, "hostile", "", "[[grant]]\ndag = \"*\"\nconnections = [\"x\"]\n")
	s.change(
		"UPDATE serialized_dag SET data = replace(data, '\"good_user\"', '\"#1234\"') WHERE " +
			"dag_id = 'good'",
	)
	d := s.serve()
	as(t, dagUser).reads(s.file("x"), dagFile)
	for _, uid := range []int{0, 65534, owner} {
		as(t, uid).fails(s.file("x"), "EACCES")
	}
	out, stderr, code := output(t, 0, connfsBinary, "grants", "--config", s.config, "--json")
	if code != 0 ||
		!strings.Contains(
			string(out),
			fmt.Sprintf(`"dag_id":"good","run_as_user":"#%d","uid":%d`, dagUser, dagUser),
		) {
		t.Errorf("grants: exit %d\n%s%s", code, out, stderr)
	}
	for _, line := range strings.Split(string(out), "\n") {
		for _, uid := range []string{"0", "65534", "4294967295", fmt.Sprint(owner)} {
			if strings.Contains(line, `"uid":`+uid+`,`) {
				t.Errorf("granted: %s", line)
			}
		}
	}
	d.await("is ignored")
}

// dagWith writes a DAG of Airflow 2 whose n tasks run as users of their own, beside numeric_user.
func dagWith(t *testing.T, db *sql.DB, id, prefix string, n int) {
	t.Helper()
	var tasks []string
	for i := range n {
		tasks = append(tasks, fmt.Sprintf(`{"task_id":"t%d","run_as_user":"%s%d"}`, i, prefix, i))
	}
	data := fmt.Sprintf(`{"__version":1,"dag":{"_dag_id":%q,"tasks":[%s]}}`, id,
		strings.Join(tasks, ","))
	for _, statement := range []struct {
		text string
		args []any
	}{
		{"CREATE TEMP TABLE d AS SELECT * FROM dag WHERE dag_id = 'numeric_user'", nil},
		{"UPDATE d SET dag_id = ?", []any{id}},
		{"INSERT INTO dag SELECT * FROM d", nil},
		{"CREATE TEMP TABLE s AS SELECT * FROM serialized_dag WHERE dag_id = 'numeric_user'", nil},
		{"UPDATE s SET dag_id = ?, data = ?", []any{id, data}},
		{"INSERT INTO serialized_dag SELECT * FROM s", nil},
		{"DROP TABLE d", nil},
		{"DROP TABLE s", nil},
	} {
		_, err := db.Exec(statement.text, statement.args...)
		must(t, err)
	}
}

// Tens of thousands of made-up users in DAGs delay nobody whom the configuration names, nor a
// reload, and do not flood the log. DAGs that name few users keep their grants.
func TestVeryManyUsersInDAGsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	grants := func(user string) string {
		return numericGrant + fmt.Sprintf(
			"[[grant]]\nrun_as_user = %q\nconnections = [\"x\"]\n", user)
	}
	s := derivedSite(t, "2.10", `dags_every = "1s"`, grants("games"))
	db, err := sql.Open("sqlite", filepath.Join(s.home, "airflow.db"))
	must(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("BEGIN")
	must(t, err)
	for i := range 70 {
		dagWith(t, db, fmt.Sprintf("numeric_many_%02d", i), fmt.Sprintf("made-up-%d-", i), 900)
	}
	dagWith(t, db, "numeric_over", "made-up-", 1001)
	_, err = db.Exec("COMMIT")
	must(t, err)

	games, news := as(t, accountOf(t, "games")), as(t, accountOf(t, "news"))
	d := s.serve()
	games.reads(s.file("x"), dagFile)
	news.fails(s.file("x"), "EACCES")
	as(t, dagUser).reads(s.file("x"), dagFile)

	text, err := os.ReadFile(s.config)
	must(t, err, os.WriteFile(s.config, []byte(strings.Replace(string(text), `"games"`, `"news"`,
		1)), 0o600))
	d.reload("connfs: reloaded")
	news.reads(s.file("x"), dagFile)
	games.fails(s.file("x"), "EACCES")
	eventually(t, "the log says what grants nothing", func() bool {
		return strings.Contains(d.log(), "those that name the most grant nothing") &&
			strings.Contains(d.log(), "users whom serialized DAGs name")
	})
	as(t, dagUser).reads(s.file("x"), dagFile)
	if log := d.log(); strings.Count(log, "\n") > 60 || len(log) > 20_000 {
		t.Errorf("the log has %d lines and %d bytes", strings.Count(log, "\n"), len(log))
	}

	out, stderr, _ := output(t, 0, connfsBinary, "check", "--config", s.config)
	for _, want := range []string{
		"more than 5000 users in all, and those that name the most grant nothing: numeric_many_",
		`ignored: "numeric_over": too many users`,
	} {
		if !strings.Contains(string(out)+stderr, want) {
			t.Errorf("check does not say %q:\n%s%s", want, out, stderr)
		}
	}
	if n := strings.Count(string(out), "\n"); n > 100 {
		t.Errorf("check prints %d lines", n)
	}
}

// accountOf returns the uid of an account of this machine.
func accountOf(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	must(t, err)
	uid, err := strconv.Atoi(u.Uid)
	must(t, err)
	return uid
}
