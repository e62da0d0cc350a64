//go:build integration

package airflow_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/integration/servers"
)

// database is a server that Airflow keeps a metastore on. The drivers that
// Airflow would write with are not installed, so rows are moved there from the
// SQLite file that it wrote, into the tables that it makes there.
type database struct {
	name string
	exec func(database, sql string)
	url  func(database string) string
	// create makes a database with this name.
	create string
	// escape is for what stands between the quotes of a text.
	escape *strings.Replacer
	// schema is the quoted name of the column.
	schema string
}

func startDatabases(t *testing.T) []database {
	pg, maria := servers.StartPostgres(t), servers.StartMariaDB(t)
	return []database{
		{
			name: "postgres", exec: pg.Exec, create: "CREATE DATABASE %s",
			escape: strings.NewReplacer("'", "''"), schema: `"schema"`,
			url: func(database string) string { return pg.URL("airflow", pg.Password, database) },
		},
		{
			name: "mariadb", exec: maria.Exec, create: "CREATE DATABASE %s CHARACTER SET utf8mb4",
			escape: strings.NewReplacer("'", "''", `\`, `\\`), schema: "`schema`",
			url: func(database string) string {
				return maria.URL("airflow", maria.Password, database)
			},
		},
	}
}

// copyRows makes a metastore of that version of Airflow, moves the connections of
// an SQLite file there as they are stored, and returns its URL.
func (d database) copyRows(t *testing.T, version, from string) string {
	t.Helper()
	folder := map[string]string{airflow.V2: "2.10", airflow.V3: "3.3"}[version]
	script, err := os.ReadFile(filepath.Join("../../resolve/metastore/testdata", folder,
		d.name+".sql"))
	if err != nil {
		t.Fatal(err)
	}
	name := "af" + strings.ReplaceAll(folder, ".", "")
	d.exec("airflow", fmt.Sprintf(d.create, name))
	d.exec(name, string(script))
	d.exec(name, "DELETE FROM connection")

	db, err := sql.Open("sqlite", "file:"+from+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const columns = "id, conn_id, conn_type, description, host, login, password, port, " +
		"is_encrypted, is_extra_encrypted, extra, "
	rows, err := db.Query("SELECT " + columns + `"schema" FROM connection`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tuples []string
	for rows.Next() {
		values, into := make([]any, 12), make([]any, 12)
		for i := range into {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		literals := make([]string, len(values))
		for i, v := range values {
			literals[i] = d.literal(t, v)
		}
		tuples = append(tuples, "("+strings.Join(literals, ", ")+")")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	d.exec(name, "INSERT INTO connection ("+columns+d.schema+") VALUES "+strings.Join(tuples, ", "))
	return d.url(name)
}

// literal writes a value of SQLite in SQL. An integer is put between quotes too: it may
// stand for a boolean, and PostgreSQL does not take a bare integer for that.
func (d database) literal(t *testing.T, value any) string {
	t.Helper()
	switch v := value.(type) {
	case nil:
		return "NULL"
	case int64:
		return "'" + strconv.FormatInt(v, 10) + "'"
	case string:
		return "'" + d.escape.Replace(v) + "'"
	}
	t.Fatalf("a column holds a %T", value)
	return ""
}
