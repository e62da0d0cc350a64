package metastore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/metastore"
)

// copyDAGFile copies a metastore of serialized DAGs that Airflow wrote, since SQLite
// may write beside a file, applies the statements, and returns its path.
func copyDAGFile(t *testing.T, version, file string, statements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../internal/dags/testdata", version, file))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	openWriter(t, path, statements...)
	return path
}

// dagsOf opens a copy of the metastore that Airflow version wrote, after the
// statements; exec applies more of them.
func dagsOf(t *testing.T, version string, statements ...string) (
	m *metastore.Store, exec func(...string)) {
	t.Helper()
	path := copyDAGFile(t, version, "airflow.db", statements...)
	return openSQLite(t, path), func(statements ...string) {
		t.Helper()
		openWriter(t, path, statements...)
	}
}

// teams31 gives the bundle red-bundle to the team red, in the tables of 3.1.
var teams31 = []string{
	"INSERT INTO team (id, name) VALUES ('00000000000000000000000000000001', 'red'), " +
		"('00000000000000000000000000000002', 'blue')",
	"INSERT INTO dag_bundle_team (dag_bundle_name, team_id) VALUES " +
		"('red-bundle', '00000000000000000000000000000001')",
}

// readDAGs returns what DAGs calls, by key, and fails where one comes twice.
func readDAGs(t *testing.T, m *metastore.Store,
	known map[string]string) map[string]metastore.SerializedDAG {
	t.Helper()
	all := make(map[string]metastore.SerializedDAG)
	err := m.DAGs(t.Context(), known, func(d metastore.SerializedDAG) error {
		if _, twice := all[d.Key]; twice {
			t.Errorf("%q comes twice", d.Key)
		}
		all[d.Key] = d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// versionsOf returns the rows of one DAG, the newest first.
func versionsOf(all map[string]metastore.SerializedDAG, id string) []metastore.SerializedDAG {
	var found []metastore.SerializedDAG
	for _, d := range all {
		if d.ID == id {
			found = append(found, d)
		}
	}
	slices.SortFunc(found,
		func(a, b metastore.SerializedDAG) int { return int(b.Version - a.Version) })
	return found
}

func TestDAGsAreReadAgainOnlyWhereTheyChange(t *testing.T) {
	for _, c := range []struct{ version, change string }{
		{"1.10", "UPDATE serialized_dag SET dag_hash = 'x' WHERE dag_id = 'two_users'"},
		{"2.10", "UPDATE serialized_dag SET last_updated = '2030-01-01 00:00:00.000001' WHERE " +
			"dag_id = 'two_users'"},
		{"3.3", "UPDATE serialized_dag SET dag_hash = 'x' WHERE dag_id = 'two_users'"},
		// What is known of the DAG changes, though its document does not.
		{"2.10", "UPDATE dag SET fileloc = '/elsewhere.py' WHERE dag_id = 'two_users'"},
		{"2.2", "INSERT INTO dag (dag_id, root_dag_id, is_subdag, is_active, max_active_tasks, " +
			"has_task_concurrency_limits) VALUES ('two_users.x', 'two_users', 1, 1, 1, 0)"},
		{"3.0", "UPDATE dag SET bundle_name = 'red-bundle' WHERE dag_id = 'two_users'"},
	} {
		t.Run(c.version+": "+c.change[:20], func(t *testing.T) {
			m, exec := dagsOf(t, c.version)
			known := make(map[string]string)
			all := readDAGs(t, m, nil)
			for key, d := range all {
				if !d.Fetched || d.Data == nil && d.Compressed == nil {
					t.Errorf("%s was not read", d.ID)
				}
				known[key] = d.Revision
			}
			if len(all) < 14 {
				t.Fatalf("%d DAGs", len(all))
			}
			fetched := func() (ids []string) {
				for _, d := range readDAGs(t, m, known) {
					if d.Fetched {
						ids = append(ids, d.ID)
					} else if d.Data != nil || d.Compressed != nil {
						t.Errorf("%s has a document that nobody asked for", d.ID)
					}
				}
				return ids
			}
			if got := fetched(); got != nil {
				t.Errorf("read again: %q", got)
			}
			exec(c.change)
			if got := fetched(); !slices.Equal(got, []string{"two_users"}) {
				t.Errorf("read again: %q, want two_users", got)
			}
			exec("DELETE FROM serialized_dag WHERE dag_id = 'two_users'")
			if got := versionsOf(readDAGs(t, m, known), "two_users"); got != nil {
				t.Errorf("still there: %+v", got)
			}
		})
	}
}

func TestDAGsThatAreNotActiveAreLeftOut(t *testing.T) {
	for _, c := range []struct{ version, change string }{
		{"1.10", "UPDATE dag SET is_active = 0 WHERE dag_id = 'two_users'"},
		{"2.10", "UPDATE dag SET is_active = NULL WHERE dag_id = 'two_users'"},
		{"3.0", "UPDATE dag SET is_stale = 1 WHERE dag_id = 'two_users'"},
		{"3.0", "UPDATE dag SET is_stale = NULL WHERE dag_id = 'two_users'"},
	} {
		m, exec := dagsOf(t, c.version)
		before := readDAGs(t, m, nil)
		if len(versionsOf(before, "two_users")) != 1 || len(versionsOf(before, "gone_stale")) != 0 {
			t.Errorf("%s: the data is not what it was", c.version)
		}
		exec(c.change)
		if after := readDAGs(t, m, nil); len(after) != len(before)-1 ||
			versionsOf(after, "two_users") != nil {
			t.Errorf("%s: %d DAGs of %d are left", c.change, len(after), len(before))
		}
	}
}

func TestVersionsThatRunningTasksHoldCount(t *testing.T) {
	for _, version := range []string{"3.0", "3.1", "3.3"} {
		m, exec := dagsOf(t, version)
		for _, c := range []struct {
			state string
			want  []int64
		}{
			{"NULL", []int64{2}},
			{"'success'", []int64{2}},
			{"'scheduled'", []int64{2}},
			{"'queued'", []int64{2, 1}},
			{"'running'", []int64{2, 1}},
			{"'deferred'", []int64{2, 1}},
			{"'failed'", []int64{2}},
		} {
			exec("UPDATE task_instance SET state = " + c.state)
			var got []int64
			for _, d := range versionsOf(readDAGs(t, m, nil), "versioned") {
				got = append(got, d.Version)
				old := strings.Contains(string(d.Data), "dropped_user")
				if old != (d.Version == 1) || d.Bundle != "main" {
					t.Errorf("%s: version %d has the wrong document or bundle %q", version,
						d.Version, d.Bundle)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, state %s: versions %v, want %v", version, c.state, got, c.want)
			}
		}
		exec("UPDATE task_instance SET state = 'running'",
			"UPDATE dag SET is_stale = 1 WHERE dag_id = 'versioned'")
		if got := versionsOf(readDAGs(t, m, nil), "versioned"); got != nil {
			t.Errorf("%s: stale, and running: %+v", version, got)
		}
	}
}

func TestBundlesAndTeams(t *testing.T) {
	for _, c := range []struct {
		name, version string
		change        []string
		bundle, team  string
	}{
		{"before teams", "3.0", nil, "red-bundle", ""},
		{"no team", "3.1", nil, "red-bundle", ""},
		{"a team by number", "3.1", teams31, "red-bundle", "red"},
		{"two teams", "3.1",
			append(slices.Clone(teams31), "DROP INDEX idx_dag_bundle_team_dag_bundle_name",
				"INSERT INTO dag_bundle_team (dag_bundle_name, team_id) VALUES ('red-bundle', "+
					"'00000000000000000000000000000002')"), "red-bundle", ""},
		{"a team by name", "3.3", nil, "red-bundle", "red"},
		{"last seen in another bundle", "3.3",
			[]string{"UPDATE dag SET bundle_name = 'main' WHERE dag_id = 'red_team_dag'"}, "", ""},
		{"the version is of another bundle", "3.3",
			[]string{"UPDATE dag_version SET bundle_name = 'main' WHERE dag_id = 'red_team_dag'"},
			"", ""},
		{"the version has none", "3.3", []string{"UPDATE dag_version SET bundle_name = NULL " +
			"WHERE dag_id = 'red_team_dag'"}, "red-bundle", "red"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := dagsOf(t, c.version, c.change...)
			got := versionsOf(readDAGs(t, m, nil), "red_team_dag")
			if len(got) != 1 || got[0].Bundle != c.bundle || got[0].Team != c.team ||
				got[0].RelativeFile != "teamdag.py" {
				t.Errorf("got %+v, want bundle %q, team %q", got, c.bundle, c.team)
			}
		})
	}
}

func TestSubDAGsOfADAG(t *testing.T) {
	m, exec := dagsOf(t, "2.2")
	if got := versionsOf(readDAGs(t, m, nil), "with_subdag"); len(got) != 1 ||
		!slices.Equal(got[0].SubDAGs, []string{"with_subdag.section"}) {
		t.Errorf("got %+v", got)
	}
	exec("UPDATE dag SET is_active = 0 WHERE dag_id = 'with_subdag.section'")
	if got := versionsOf(readDAGs(t, m, nil), "with_subdag"); len(got) != 1 ||
		got[0].SubDAGs != nil {
		t.Errorf("not active: %+v", got)
	}
}

func TestDAGRowsThatDoNotCountSayWhy(t *testing.T) {
	m, _ := dagsOf(t, "2.10",
		"DELETE FROM dag WHERE dag_id = 'two_users'",
		"UPDATE serialized_dag SET data = CAST(zeroblob(34000000) AS TEXT) WHERE dag_id = 'mapped'",
		"UPDATE serialized_dag SET data = NULL WHERE dag_id = 'grouped'",
		"UPDATE serialized_dag SET data = 5 WHERE dag_id = 'no_tasks'",
	)
	all := readDAGs(t, m, nil)
	got := map[string]string{}
	for id, d := range all {
		if d.Refused != "" {
			got[id] = d.Refused
			if d.Data != nil || d.Compressed != nil {
				t.Errorf("%s is refused, and has a document", id)
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"two_users": "no row in dag", "mapped": "too large"},
		got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if d := all["grouped"]; !d.Fetched || d.Data != nil {
		t.Errorf("NULL is %q", d.Data)
	}
	if d := all["no_tasks"]; string(d.Data) != "5" {
		t.Errorf("a number is %q", d.Data)
	}
	other, _ := dagsOf(t, "3.3",
		"UPDATE dag_version SET dag_id = 'mapped', version_number = 77 WHERE dag_id = 'two_users'")
	if d := versionsOf(readDAGs(t, other, nil), "two_users"); len(d) != 1 ||
		d[0].Refused != "version is of another DAG" {
		t.Errorf("a version of another DAG: %+v", d)
	}
}

func TestADAGThatCountsAgainIsReadAgain(t *testing.T) {
	m, exec := dagsOf(t, "2.10", "UPDATE dag SET fileloc = NULL",
		"UPDATE dag SET dag_id = 'away' WHERE dag_id = 'two_users'")
	known := make(map[string]string)
	for key, d := range readDAGs(t, m, nil) {
		known[key] = d.Revision
	}
	if got := versionsOf(readDAGs(t, m, known), "two_users"); len(got) != 1 ||
		got[0].Refused != "no row in dag" {
		t.Fatalf("without a row in dag: %+v", got)
	}
	exec("UPDATE dag SET dag_id = 'two_users' WHERE dag_id = 'away'")
	if got := versionsOf(readDAGs(t, m, known), "two_users"); len(got) != 1 || !got[0].Fetched ||
		got[0].Refused != "" {
		t.Errorf("with its row: %+v", got)
	}
}

func TestManyAndLargeDAGsAreReadInBatches(t *testing.T) {
	statements := []string{"DELETE FROM serialized_dag", "DELETE FROM dag WHERE dag_id <> 'mapped'"}
	for i := range 250 {
		size := 10
		if i%50 == 0 {
			size = 9 << 20
		}
		statements = append(statements,
			fmt.Sprintf("INSERT INTO dag (dag_id, is_active, max_active_tasks, "+
				"has_task_concurrency_limits, max_consecutive_failed_dag_runs) VALUES "+
				"('many_%d', 1, 1, 0, 0)", i),
			fmt.Sprintf("INSERT INTO serialized_dag (dag_id, fileloc, fileloc_hash, "+
				"data_compressed, last_updated, dag_hash) VALUES ('many_%d', '', 0, "+
				"zeroblob(%d), '2026-01-01', '%d')", i, size, i))
	}
	m, _ := dagsOf(t, "2.10", statements...)
	all := readDAGs(t, m, nil)
	large := 0
	for _, d := range all {
		if len(d.Compressed) == 9<<20 {
			large++
		} else if len(d.Compressed) != 10 {
			t.Errorf("%s: %d bytes", d.ID, len(d.Compressed))
		}
	}
	if len(all) != 250 || large != 5 {
		t.Errorf("%d DAGs, %d large ones", len(all), large)
	}
}

func TestDAGsThatCannotBeRead(t *testing.T) {
	m, _ := dagsOf(t, "2.10", "DROP TABLE serialized_dag")
	err := m.DAGs(t.Context(), nil, func(metastore.SerializedDAG) error { return nil })
	if conn.KindOf(err) != conn.Unreachable ||
		!strings.Contains(err.Error(), "no tables of serialized DAGs") {
		t.Errorf("without the table: %v", err)
	}
	m, _ = dagsOf(t, "2.10")
	stop, calls := errors.New("stop"), 0
	err = m.DAGs(t.Context(), nil, func(metastore.SerializedDAG) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("stopped with %v after %d calls", err, calls)
	}
}
