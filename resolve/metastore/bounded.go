package metastore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/connfs/connfs/conn"
)

// maxRow is how long the texts of a row may be together, in bytes, for the row to be fetched.
// No longer row is ever served: 1 MiB of content, which is the most, becomes 16/9 of that when
// it is sealed and then encrypted with Fernet.
const maxRow = 2 << 20

// maxID is how long an id may be to be listed, in bytes: no file has a longer name.
const maxID = 1024

// measured are the text columns of the table connection.
var measured = []string{"conn_type", "description", "host", "schema", "login", "password", "extra"}

// bounded returns the query for the rows that meet a condition about the table c; empty: all.
// Each row begins with its size and its id. Of a row that is larger than maxRow nothing else
// comes, so that it costs nobody more than a small one: PostgreSQL and SQLite need not even read a
// text to know its length. A row of a team has no size.
//
// Not all versions of Airflow have all of the columns. Where one is missing its name means, in
// the innermost query, that of the table missing around it.
func (m *Store) bounded(condition string) string {
	var missing, lengths []string
	for _, name := range slices.Concat(measured, teamColumns) {
		missing = append(missing, "NULL AS "+m.db.quote(name))
	}
	for _, name := range measured {
		lengths = append(lengths, "COALESCE(OCTET_LENGTH("+m.db.quote(name)+"), 0)")
	}
	var teamless []string
	for _, name := range teamColumns {
		teamless = append(teamless, m.db.quote(name)+" IS NULL")
	}
	if condition != "" {
		condition = " WHERE " + condition
	}
	return fmt.Sprintf("SELECT sized.bytes, sized.conn_id, found.* FROM"+
		" (SELECT c.id AS number, c.conn_id,"+
		" (SELECT CASE WHEN %s THEN %s END FROM %s own WHERE own.id = c.id) AS bytes"+
		" FROM %s c CROSS JOIN (SELECT %s) missing%s) sized"+
		" LEFT JOIN %s found ON found.id = sized.number AND sized.bytes <= %d"+
		" ORDER BY sized.number",
		strings.Join(teamless, " AND "), strings.Join(lengths, " + "), m.table,
		m.table, strings.Join(missing, ", "), condition, m.table, maxRow)
}

// eachBounded calls f with the id and the row of each answer to a query that bounded made.
// Rows of teams are left out, and rows whose id is no text.
func (m *Store) eachBounded(ctx context.Context, c *sql.Conn, query string, arguments []any,
	f func(id string, r *row) error) error {
	rows, err := c.QueryContext(ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	all, err := newAnyRow(rows, m.db)
	if err != nil {
		return err
	}
	const before = 2 // columns: the size and the id
	names := make(map[string]int, len(all.values)-before)
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for i, name := range columns[before:] {
		names[name] = i
	}
	if err := checkColumns(names); err != nil {
		return err
	}
	for rows.Next() {
		if err := all.scan(rows); err != nil {
			return err
		}
		r := &row{db: m.db, column: names, values: slices.Clone(all.values[before:])}
		id, isText := m.db.text(all.values[1])
		var ours bool // else it is a team's
		if r.bytes, ours = all.values[0].(int64); !ours || !isText {
			continue
		}
		if err := f(id, r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// large reports whether the row was too large to be fetched.
func (r *row) large() bool { return r.bytes > maxRow }

// tooLarge is the answer for a row of so many bytes.
func tooLarge(bytes int64) error {
	return conn.Errorf(conn.TooLarge, "metastore",
		"the row is %d bytes long, and no connection of over 1 MiB is served", bytes)
}
