package metastore

import (
	"database/sql"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
)

// teamColumns say which team owns a row, in Airflow 3.1 and 3.2 on.
var teamColumns = []string{"team_id", "team_name"}

// needed are the columns that every version of Airflow has. Their order differs, and
// description came later.
var needed = []string{"conn_id", "conn_type", "host", "schema", "login", "password", "port",
	"extra", "is_encrypted", "is_extra_encrypted"}

// row is one row of a table, its columns known by name.
type row struct {
	db     database
	column map[string]int
	values []any
	bytes  int64 // of its texts, where bounded asked for it
}

// newRow returns a row of the table connection.
func newRow(rows *sql.Rows, db database) (*row, error) {
	r, err := newAnyRow(rows, db)
	if err != nil {
		return nil, err
	}
	return r, checkColumns(r.column)
}

// checkColumns returns an error where a column is missing that every version of Airflow has.
func checkColumns(columns map[string]int) error {
	for _, name := range needed {
		if _, ok := columns[name]; !ok {
			e := conn.Errorf(conn.Unreachable, "metastore", "the table connection has no column %s",
				name)
			e.Hint = "is this Airflow's database?"
			return e
		}
	}
	return nil
}

// newAnyRow returns a row of whatever columns there are.
func newAnyRow(rows *sql.Rows, db database) (*row, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	r := &row{db: db, column: make(map[string]int, len(names)), values: make([]any, len(names))}
	for i, name := range names {
		r.column[name] = i
	}
	return r, nil
}

func (r *row) scan(rows *sql.Rows) error {
	into := make([]any, len(r.values))
	for i := range into {
		into[i] = &r.values[i]
	}
	return rows.Scan(into...)
}

// value returns nil for NULL and for a column that is not there.
func (r *row) value(column string) any {
	if i, ok := r.column[column]; ok {
		return r.values[i]
	}
	return nil
}

func (r *row) text(column string) (string, bool) { return r.db.text(r.value(column)) }

// field returns a text column, nil for NULL.
func (r *row) field(column string) (*string, error) {
	v := r.value(column)
	if v == nil {
		return nil, nil
	}
	text, ok := r.db.text(v)
	if !ok || !validText(text) {
		return nil, conn.Errorf(conn.Invalid, "metastore",
			"the column %s of this row holds no text", column)
	}
	return &text, nil
}

// flag returns a truth column. NULL is false.
func (r *row) flag(column string) (bool, error) {
	switch v := r.value(column).(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case int64:
		return v != 0, nil
	}
	return false, conn.Errorf(conn.Invalid, "metastore",
		"the column %s of this row is neither true nor false", column)
}

// port returns any integer: Airflow checks no row's port. SQLite can hold other
// things in the column, for which a connection file has no form.
func (r *row) port() (*int64, error) {
	switch v := r.value("port").(type) {
	case nil:
		return nil, nil
	case int64:
		return &v, nil
	}
	return nil, conn.Errorf(conn.Invalid, "metastore",
		"the column port of this row holds no integer")
}

func validText(s string) bool { return utf8.ValidString(s) }
