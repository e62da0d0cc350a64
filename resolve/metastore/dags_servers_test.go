//go:build integration

package metastore_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/metastore"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// dagColumns are the columns that DAGs reads, with the types that Airflow gives them
// on PostgreSQL and MariaDB. Those that a version lacks are left out.
var dagColumns = map[string][][3]string{
	"serialized_dag": {
		{"dag_id", "varchar(250)", "varchar(250) COLLATE utf8mb3_bin"}, {"data", "json", "json"},
		{"data_compressed", "bytea", "mediumblob"},
		{"last_updated", "timestamptz", "timestamp(6) NULL"},
		{"dag_hash", "varchar(32)", "varchar(32)"}, {"dag_version_id", "uuid", "char(32)"},
	},
	"dag": {
		{"dag_id", "varchar(250)", "varchar(250) COLLATE utf8mb3_bin"},
		{"is_active", "boolean", "tinyint(1)"}, {"is_stale", "boolean", "tinyint(1)"},
		{"is_subdag", "boolean", "tinyint(1)"},
		{"root_dag_id", "varchar(250)", "varchar(250) COLLATE utf8mb3_bin"},
		{"fileloc", "varchar(2000)", "varchar(2000)"},
		{"relative_fileloc", "varchar(2000)", "varchar(2000)"},
		{"bundle_name", "varchar(250)", "varchar(250) COLLATE utf8mb3_bin"},
	},
	"dag_version": {
		{"id", "uuid", "char(32)"}, {"version_number", "integer", "int"},
		{"dag_id", "varchar(250)", "varchar(250) COLLATE utf8mb3_bin"},
		{"bundle_name", "varchar(250)", "varchar(250) COLLATE utf8mb3_bin"},
	},
	"task_instance": {{"state", "varchar(20)", "varchar(20)"},
		{"dag_version_id", "uuid", "char(32)"}},
	"team": {{"id", "uuid", "char(32)"}, {"name", "varchar(50)", "varchar(50)"}},
	"dag_bundle_team": {{"dag_bundle_name", "varchar(250)", "varchar(250)"},
		{"team_id", "uuid", "char(32)"}, {"team_name", "varchar(50)", "varchar(50)"}},
}

// copyDAGs copies the tables of an SQLite metastore to a server.
func copyDAGs(t *testing.T, k kindOfServer, from string, s server) {
	t.Helper()
	source, err := sql.Open("sqlite", from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	to := direct(t, s)
	for table, columns := range dagColumns {
		s.Exec("airflow", "DROP TABLE IF EXISTS "+table)
		var names, definitions, marks []string
		for _, c := range columns {
			var n int
			if err := source.QueryRow("SELECT count(*) FROM pragma_table_info(?) WHERE name = ?",
				table, c[0]).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				continue
			}
			names = append(names, c[0])
			if k.name == "postgres" {
				definitions, marks = append(definitions, c[0]+" "+c[1]),
					append(marks, fmt.Sprintf("$%d", len(names)))
			} else {
				definitions, marks = append(definitions, c[0]+" "+c[2]), append(marks, "?")
			}
		}
		if names == nil || table == "task_instance" &&
			!strings.Contains(strings.Join(names, " "), "dag_version_id") {
			continue
		}
		s.Exec("airflow", "CREATE TABLE "+table+" ("+strings.Join(definitions, ", ")+")")
		rows, err := source.Query("SELECT " + strings.Join(names, ", ") + " FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]any, len(names)), make([]any, len(names))
			for i := range into {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			for i, name := range names {
				if n, ok := values[i].(int64); ok && strings.HasPrefix(name, "is_") {
					values[i] = n != 0
				}
				if v, ok := values[i].(time.Time); ok && k.name == "mariadb" {
					values[i] = v.UTC().Format("2006-01-02 15:04:05.000000")
				}
			}
			if _, err := to.Exec("INSERT INTO "+table+" ("+strings.Join(names, ", ")+") VALUES ("+
				strings.Join(marks, ", ")+")", values...); err != nil {
				t.Fatalf("%s: %v", table, err)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
}

func TestServersHoldTheSameDAGsAsSQLite(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		for _, c := range []struct {
			version, file string
			statements    []string
		}{
			{"1.10", "airflow.db", nil},
			{"2.2", "airflow.db", nil},
			{"2.10", "airflow.db", nil},
			{"2.10", "airflow-compressed.db", nil},
			{"3.0", "airflow-compressed.db", nil},
			{"3.1", "airflow.db", teams31},
			{"3.3", "airflow.db", []string{"UPDATE task_instance SET state = 'running'"}},
			{"3.3", "airflow-compressed.db", nil},
		} {
			t.Run(c.version+"/"+c.file, func(t *testing.T) {
				// Neither server's JSON takes NaN, so that no such row can be there.
				path := copyDAGFile(t, c.version, c.file,
					append(c.statements, "DELETE FROM serialized_dag WHERE dag_id = "+
						"'nan_in_default_args'")...)
				copyDAGs(t, k, path, s)
				want := byIDAndVersion(
					readDAGs(t, open(t, metastore.Settings{URL: "sqlite:///" + path}), nil))
				if len(want) < 13 {
					t.Fatalf("only %d DAGs", len(want))
				}
				m := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
				got := readDAGs(t, m, nil)
				if diff := cmp.Diff(want, byIDAndVersion(got)); diff != "" {
					t.Errorf("(-SQLite +%s):\n%s", k.name, diff)
				}
				known := make(map[string]string)
				for key, d := range got {
					known[key] = d.Revision
				}
				for _, d := range readDAGs(t, m, known) {
					if d.Fetched {
						t.Errorf("%s was read again", d.ID)
					}
				}
			})
		}
		s.Exec("airflow", k.createReader)
		m := open(t, metastore.Settings{URL: s.URL("reader", "readerpw", "airflow")})
		err := m.DAGs(t.Context(), nil, func(metastore.SerializedDAG) error { return nil })
		resolvetest.WantKind(t, "a user who may read connection only", err, conn.Denied)
		if err != nil && !strings.Contains(err.Error(), "SELECT on serialized_dag") {
			t.Errorf("the error does not say what is needed: %v", err)
		}
	})
}

// byIDAndVersion leaves out what must differ: ids and times are written otherwise.
func byIDAndVersion(all map[string]metastore.SerializedDAG) map[string]metastore.SerializedDAG {
	out := make(map[string]metastore.SerializedDAG)
	for _, d := range all {
		d.Key, d.Revision = "", ""
		out[fmt.Sprintf("%s %d", d.ID, d.Version)] = d
	}
	return out
}
