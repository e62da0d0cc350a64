//go:build integration

package integration_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
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
