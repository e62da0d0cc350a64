package metastore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/connfs/connfs/conn"
)

// Row is one row of the table connection as it was read, for being rewritten.
type Row struct {
	// Connection is what the row holds; a sealed one is still sealed.
	Connection *conn.Connection

	id     string
	stored *row
}

// Row reads the row of an id that has no team. Where 1.10 keeps several with the same
// id the error is Invalid: Airflow takes any of them, and one alone must not be sealed.
func (m *Store) Row(ctx context.Context, id string) (*Row, error) {
	found, err := m.find(ctx, id, 2)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		e := conn.Errorf(conn.Invalid, "metastore", "several rows have this id")
		e.Hint = "delete all but one in Airflow first"
		return nil, e
	}
	if _, ok := found[0].column["id"]; !ok {
		return nil, conn.Errorf(conn.Unreachable, "metastore",
			"the table connection has no column id")
	}
	c, err := m.connection(found[0])
	if err != nil {
		return nil, err
	}
	return &Row{Connection: c, id: id, stored: found[0]}, nil
}

// SealedRow is a row whose extra is a sealed form.
type SealedRow struct {
	ID     string           // its conn_id
	Sealed *conn.Connection // nothing but the extra
}

// SealedRows returns all rows without a team whose extra is a sealed form, in the order
// of the table, each id once. Rows that are too large to be read are left out.
func (m *Store) SealedRows(ctx context.Context) ([]SealedRow, error) {
	var found []SealedRow
	err := m.db.read(ctx, m.connections(), func(ctx context.Context, c *sql.Conn) error {
		found = nil
		seen := make(map[string]bool)
		return m.eachBounded(ctx, c, m.bounded(""), nil, func(id string, r *row) error {
			if id == "" || !m.db.holds(id) || seen[id] || r.large() {
				return nil
			}
			// An extra that does not open may be anything; reading that row says so.
			extra, err := m.secret(r, "extra", "is_extra_encrypted")
			if one := (&conn.Connection{Extra: extra}); err == nil && one.Sealed() {
				seen[id] = true
				found = append(found, SealedRow{ID: id, Sealed: one})
			}
			return nil
		})
	})
	return found, err
}

// Encrypter makes Fernet tokens.
type Encrypter interface {
	// Encrypt returns the token of plain. Its error is a *conn.Error.
	Encrypt(plain []byte) (string, error)
}

// Rewrite puts c into the row that was read as r, in one transaction. Columns whose
// field is the same stay as they are stored. A password or extra that is not goes in as
// Airflow writes it: as a token of encrypt, flagged so, or in clear where encrypt is nil
// or there is nothing to encrypt; a sealed form always in clear, so that nobody needs a
// key to see that it is one. The type of a connection cannot be changed.
//
// Before the commit the row is read back, and must be c. Whatever fails leaves the row
// as it was; a row that anybody changed since r was read is not touched, and the error
// is of kind Changed. Where the server is lost in the middle of the commit, the row is
// either as it was or c.
func (m *Store) Rewrite(ctx context.Context, r *Row, c *conn.Connection, encrypt Encrypter) error {
	set, err := changes(r, c, encrypt)
	if err != nil || len(set) == 0 {
		return err
	}
	return m.db.write(ctx, m.connections(), func(ctx context.Context, db *sql.Conn) error {
		now, err := m.byNumber(ctx, db, r, m.db.forUpdate())
		if err != nil {
			return err
		}
		if !now.equals(r.stored, nil) {
			return changed()
		}
		if err := m.update(ctx, db, r, set); err != nil {
			return err
		}
		now, err = m.byNumber(ctx, db, r, "")
		if err != nil {
			return err
		}
		back, err := m.connection(now)
		if err != nil {
			return err
		}
		if !back.Equal(c) || !now.equals(r.stored, set) {
			return conn.Errorf(conn.Failed, "metastore",
				"the database did not keep what was written: a column is too short for it, or in "+
					"another character set")
		}
		return nil
	})
}

// column is what Rewrite sets.
type column struct {
	name  string
	value any
}

// changes returns the columns in which c is not what the row holds.
func changes(r *Row, c *conn.Connection, encrypt Encrypter) ([]column, error) {
	var set []column
	text := func(name string, to *string) {
		if to == nil {
			set = append(set, column{name, nil})
		} else {
			set = append(set, column{name, *to})
		}
	}
	was := r.Connection
	if !equalText(was.Type, c.Type) {
		return nil, conn.Errorf(conn.Invalid, "metastore",
			"the conn_type of a row cannot be sealed: Airflow needs it")
	}
	for _, f := range []struct {
		name     string
		was, now *string
	}{
		{"description", was.Description, c.Description},
		{"host", was.Host, c.Host},
		{"login", was.Login, c.Login},
		{"schema", was.Schema, c.Schema},
	} {
		if !equalText(f.was, f.now) {
			text(f.name, f.now)
		}
	}
	switch {
	case was.Port == nil && c.Port == nil, was.Port != nil && c.Port != nil && *was.Port == *c.Port:
	case c.Port == nil:
		set = append(set, column{"port", nil})
	default:
		set = append(set, column{"port", *c.Port})
	}
	for _, f := range []struct {
		name, flag string
		was, now   conn.Secret
	}{
		{"password", "is_encrypted", was.Password, c.Password},
		{"extra", "is_extra_encrypted", was.Extra, c.Extra},
	} {
		if f.was == f.now {
			continue
		}
		plain, there := f.now.Reveal()
		switch {
		case !there:
			set = append(set, column{f.name, nil}, column{f.flag, false})
		case plain == "" || encrypt == nil || f.name == "extra" && conn.IsSealed(plain):
			set = append(set, column{f.name, plain}, column{f.flag, false})
		default:
			token, err := encrypt.Encrypt([]byte(plain))
			if err != nil {
				return nil, err
			}
			set = append(set, column{f.name, token}, column{f.flag, true})
		}
	}
	for _, one := range set {
		if _, ok := r.stored.column[one.name]; !ok {
			return nil, conn.Errorf(conn.Invalid, "metastore",
				"the table connection has no column %s", one.name)
		}
	}
	return set, nil
}

func equalText(a, b *string) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// byNumber reads the row again by its primary key.
func (m *Store) byNumber(ctx context.Context, db *sql.Conn, r *Row, lock string) (*row, error) {
	rows, err := db.QueryContext(ctx, "SELECT * FROM "+m.table+" WHERE id = "+m.db.placeholder()+
		lock, r.stored.value("id"))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	now, err := newRow(rows, m.db)
	if err != nil {
		return nil, err
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, err
		}
		return nil, changed()
	}
	if err := now.scan(rows); err != nil {
		return nil, err
	}
	return now, rows.Close()
}

// update sets columns of the row, on the condition that every column is still as it was
// read: also a table that knows no locks shall not lose what somebody else wrote.
func (m *Store) update(ctx context.Context, db *sql.Conn, r *Row, set []column) error {
	var terms, conditions []string
	var arguments []any
	next := func(value any) string {
		arguments = append(arguments, value)
		return m.db.argument(len(arguments))
	}
	for _, c := range set {
		terms = append(terms, m.db.quote(c.name)+" = "+next(c.value))
	}
	for name, i := range r.stored.column {
		value := r.stored.values[i]
		conditions = append(conditions, m.db.same(m.db.quote(name), next(value), value))
	}
	result, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET %s WHERE %s", m.table,
		strings.Join(terms, ", "), strings.Join(conditions, " AND ")), arguments...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return changed()
	}
	return nil
}

// equals reports whether a row has the same columns, with the same in each, as another
// one, but for some.
func (r *row) equals(other *row, but []column) bool {
	if len(r.column) != len(other.column) {
		return false
	}
next:
	for name := range r.column {
		for _, c := range but {
			if c.name == name {
				continue next
			}
		}
		if _, ok := other.column[name]; !ok || !equalValue(r.value(name), other.value(name)) {
			return false
		}
	}
	return true
}

// equalValue compares what drivers return.
func equalValue(a, b any) bool {
	x, isBytes := a.([]byte)
	y, both := b.([]byte)
	if isBytes || both {
		return isBytes && both && bytes.Equal(x, y)
	}
	return a == b
}

func changed() *conn.Error {
	return &conn.Error{
		Kind: conn.Changed, Source: "metastore",
		Reason: "somebody changed the row meanwhile, and it was left alone",
		Hint:   "run the command again",
	}
}

func mayNotWrite() *conn.Error {
	return &conn.Error{
		Kind: conn.Denied, Reason: "the table connection may be read and not changed",
		Hint: "sealing rows needs the right to UPDATE it, which reading does not",
	}
}

func tooLong() *conn.Error {
	return conn.Errorf(conn.Failed, "", "a column is too short for what is to be written")
}
