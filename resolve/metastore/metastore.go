// Package metastore finds connections in Airflow's metadata database, rewrites them there
// when they are sealed, and reads its serialized DAGs.
package metastore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/connfs/connfs/conn"
)

// Store is the backend over Airflow's metadata database, of any version from
// 1.10 on. It only reads, and needs nothing but SELECT on the table connection.
type Store struct {
	db       database
	settings Settings
	schema   string // quoted, with the dot behind it; empty: the server's default
	table    string // connection, quoted, with its schema
	fernet   Decrypter
}

// Settings names an Airflow metadata database.
type Settings struct {
	URL string // SQLAlchemy form, as in [database] sql_alchemy_conn
	// [database] sql_alchemy_schema: where the tables are; empty: the server's default
	Schema string
	// [core] fernet_key, verbatim: comma-separated, first one writes; empty: no key
	FernetKey string
}

// File returns the absolute path of the database if it is a file, with links followed where it
// exists; "" for a server, and where the URL is wrong.
func (s Settings) File() string {
	u, err := parseSQLURL(s.URL)
	if err != nil || dialects[u.Dialect] == nil {
		return ""
	}
	db, err := dialects[u.Dialect](u)
	if err != nil {
		return ""
	}
	defer func() { _ = db.Close() }() // nothing was opened
	file, ok := db.(*sqliteFile)
	if !ok {
		return ""
	}
	if path, err := filepath.EvalSymlinks(file.path); err == nil {
		return path
	}
	return file.path
}

// database is what the metastore needs of a kind of database. Its errors are of kind
// Unreachable, Denied, Timeout or Invalid, and Absent where it cannot even compare
// with such an id.
type database interface {
	// read calls f, which reads these tables, with a connection that can only read, and
	// again if the first one turns out to be dead. It returns soon after ctx ends.
	read(ctx context.Context, used tables, f func(context.Context, *sql.Conn) error) error
	// write calls f once, with a connection in a transaction, which is committed if f
	// returns nil and otherwise undone.
	write(ctx context.Context, used tables, f func(context.Context, *sql.Conn) error) error
	// quote quotes an identifier.
	quote(name string) string
	// placeholder is how a query writes its one argument.
	placeholder() string
	// argument is how a statement of several arguments writes its nth, from 1 on.
	argument(n int) string
	// same is the condition that a column holds exactly the value that argument stands
	// for, be it NULL.
	same(column, argument string, value any) string
	// forUpdate ends a query whose rows nobody else may change until the transaction is
	// over.
	forUpdate() string
	// holds says whether a text column can hold id. File names may carry any bytes, and
	// what a server cannot even be asked for is absent.
	holds(id string) bool
	// text returns a column's value as text, and false if it is not text.
	text(value any) (string, bool)
	Close() error
}

// Decrypter opens the encrypted fields of metastore rows.
type Decrypter interface {
	// Decrypt returns the plaintext of a Fernet token. Its error is a
	// *conn.Error of kind KeyRejected.
	Decrypt(token string) ([]byte, error)
}

// Open returns the backend that settings describe. It does not connect. The
// error says what is wrong with the URL and does not show it.
func Open(settings Settings, fernet Decrypter) (*Store, error) {
	u, err := parseSQLURL(settings.URL)
	if err != nil {
		return nil, err
	}
	open, ok := dialects[u.Dialect]
	if !ok {
		return nil, fmt.Errorf(
			"the database URL begins with %s://, which is not one of Airflow's databases",
			u.Dialect)
	}
	db, err := open(u)
	if err != nil {
		return nil, err
	}
	var schema string
	if settings.Schema != "" {
		schema = db.quote(settings.Schema) + "."
	}
	return &Store{db: db, settings: settings, schema: schema,
		table: schema + db.quote("connection"), fernet: fernet}, nil
}

// CheckURL returns the error that [Open] would return for a database URL. It connects to nothing,
// and the error shows nothing of the URL but the names of parameters.
func CheckURL(url string) error {
	m, err := Open(Settings{URL: url}, nil)
	if err != nil {
		return err
	}
	return m.Close()
}

// Local implements [backend.Local]: whether the database is a file.
func (m *Store) Local() bool {
	_, ok := m.db.(*sqliteFile)
	return ok
}

// dialects are the databases by what SQLAlchemy calls them, with every driver that
// Airflow's documentation and its own rewriting of URLs name.
var dialects = map[string]func(*sqlURL) (database, error){
	"sqlite":                 openSQLite,
	"sqlite+pysqlite":        openSQLite,
	"sqlite+aiosqlite":       openSQLite,
	"postgres":               openPostgres,
	"postgres+psycopg2":      openPostgres,
	"postgresql":             openPostgres,
	"postgresql+psycopg2":    openPostgres,
	"postgresql+psycopg":     openPostgres,
	"postgresql+asyncpg":     openPostgres,
	"mysql":                  openMySQL,
	"mysql+mysqldb":          openMySQL,
	"mysql+mysqlconnector":   openMySQL,
	"mysql+pymysql":          openMySQL,
	"mysql+aiomysql":         openMySQL,
	"mariadb":                openMySQL,
	"mariadb+mysqldb":        openMySQL,
	"mariadb+mysqlconnector": openMySQL,
	"mariadb+pymysql":        openMySQL,
	"mariadb+aiomysql":       openMySQL,
}

// Connection implements [backend.Backend]. Rows of a team are not there, as they are not for
// an Airflow caller without one. Where 1.10 keeps several rows with one id, the one
// with the lowest number counts.
func (m *Store) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	found, err := m.find(ctx, id, 1)
	if err != nil {
		return nil, err
	}
	return m.connection(found[0])
}

// find returns the rows of an id that have no team, in order and at least one; no more
// than enough.
func (m *Store) find(ctx context.Context, id string, enough int) ([]*row, error) {
	if !m.db.holds(id) {
		return nil, conn.Errorf(conn.Absent, "metastore", "no text column can hold this id")
	}
	query := m.bounded("c.conn_id = " + m.db.placeholder())
	var found []*row
	err := m.db.read(ctx, m.connections(), func(ctx context.Context, c *sql.Conn) error {
		found = nil
		return m.eachBounded(ctx, c, query, []any{id}, func(got string, r *row) error {
			// Collations of MySQL take other ids for equal.
			if got != id || len(found) == enough {
				return nil
			}
			if r.large() {
				return tooLarge(r.bytes)
			}
			found = append(found, r)
			return nil
		})
	})
	if err == nil && len(found) == 0 {
		err = conn.Errorf(conn.Absent, "metastore", "no row of the table connection has this id")
	}
	return found, err
}

// List implements [backend.Lister].
func (m *Store) List(ctx context.Context) ([]string, error) {
	var ids []string
	err := m.db.read(ctx, m.connections(), func(ctx context.Context, c *sql.Conn) error {
		ids = nil
		where, err := m.teamless(ctx, c)
		if err != nil {
			return err
		}
		rows, err := c.QueryContext(ctx, fmt.Sprintf(
			"SELECT conn_id FROM %s WHERE OCTET_LENGTH(conn_id) <= %d%s", m.table, maxID, where))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v any
			if err := rows.Scan(&v); err != nil {
				return err
			}
			// What cannot be asked for is not listed: NULL, and bytes that are no text.
			if id, ok := m.db.text(v); ok && id != "" && m.db.holds(id) {
				ids = append(ids, id)
			}
		}
		return rows.Err()
	})
	return ids, err
}

// Warm implements [backend.Warmer]: it logs in and looks at no table.
func (m *Store) Warm(ctx context.Context) error {
	return m.db.read(ctx, m.connections(),
		func(ctx context.Context, c *sql.Conn) error { return nil })
}

// Close closes the connections to the database.
func (m *Store) Close() error { return m.db.Close() }

// teamless returns further conditions, for rows without a team, by the columns that this
// version of Airflow has.
func (m *Store) teamless(ctx context.Context, c *sql.Conn) (string, error) {
	rows, err := c.QueryContext(ctx, "SELECT * FROM "+m.table+" WHERE 1 = 0")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	r, err := newRow(rows, m.db)
	if err != nil {
		return "", err
	}
	var terms []string
	for _, name := range teamColumns {
		if _, ok := r.column[name]; ok {
			terms = append(terms, " AND "+name+" IS NULL")
		}
	}
	return strings.Join(terms, ""), rows.Err()
}

// connection makes a connection of a row, opening what is encrypted.
func (m *Store) connection(r *row) (*conn.Connection, error) {
	c := new(conn.Connection)
	for _, field := range []struct {
		column string
		to     **string
	}{
		{"conn_type", &c.Type},
		{"description", &c.Description},
		{"host", &c.Host},
		{"login", &c.Login},
		{"schema", &c.Schema},
	} {
		v, err := r.field(field.column)
		if err != nil {
			return nil, err
		}
		*field.to = v
	}
	var err error
	if c.Password, err = m.secret(r, "password", "is_encrypted"); err != nil {
		return nil, err
	}
	if c.Extra, err = m.secret(r, "extra", "is_extra_encrypted"); err != nil {
		return nil, err
	}
	if c.Port, err = r.port(); err != nil {
		return nil, err
	}
	return c, nil
}

// secret returns a field that may be encrypted: it is if the row says so and there is
// something in it; never because it looks like a token.
func (m *Store) secret(r *row, column, flag string) (conn.Secret, error) {
	text, err := r.field(column)
	if err != nil || text == nil {
		return conn.Secret{}, err
	}
	encrypted, err := r.flag(flag)
	if err != nil {
		return conn.Secret{}, err
	}
	if !encrypted || *text == "" {
		return conn.NewSecret(*text), nil
	}
	if m.fernet == nil {
		return conn.Secret{}, conn.Errorf(conn.KeyRejected, "metastore",
			"%s: encrypted, and no key is configured", column)
	}
	plain, err := m.fernet.Decrypt(*text)
	if err != nil {
		rejected := conn.Errorf(conn.KeyRejected, "metastore", "%s: the token does not open",
			column)
		var ce *conn.Error
		if errors.As(err, &ce) {
			rejected.Reason, rejected.Hint = column+": "+ce.Reason, ce.Hint
		}
		rejected.Err = err
		return conn.Secret{}, rejected
	}
	if !validText(string(plain)) {
		return conn.Secret{}, conn.Errorf(conn.Invalid, "metastore", "%s: opened, but not UTF-8",
			column)
	}
	return conn.NewSecret(string(plain)), nil
}
