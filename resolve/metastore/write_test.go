package metastore_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fernet/fernet-go"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/metastore"
)

// tokens is an Encrypter with a key of the test's own.
type tokens struct{ key *fernet.Key }

func (e tokens) Encrypt(plain []byte) (string, error) {
	token, err := fernet.EncryptAndSign(plain, e.key)
	return string(token), err
}

// openForWriting opens a metastore with the first of its keys as the one that writes.
func openForWriting(t *testing.T, url, keys string) (*metastore.Store, tokens) {
	t.Helper()
	f, err := kms.NewFernet(keys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := metastore.Open(metastore.Settings{URL: url}, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	first, _, _ := strings.Cut(keys, ",")
	return m, tokens{fernet.MustDecodeKeys(first)[0]}
}

// sealedForm stands for one; nothing opens it here.
func sealedForm(c *conn.Connection) *conn.Connection {
	s := *c
	s.Password, s.Extra = conn.Secret{}, conn.NewSecret(`{"connfs_sealed":1,"payload":"`+strings.Repeat("x", 500)+`"}`)
	return &s
}

func text(s string) *string { return &s }

// there and back seals a row in form and puts it back as it was.
func thereAndBack(t *testing.T, m *metastore.Store, encrypt metastore.Encrypter, id string) {
	t.Helper()
	ctx := t.Context()
	before, err := m.Row(ctx, id)
	if err != nil {
		t.Fatalf("%q: %v", id, err)
	}
	if err := m.Rewrite(ctx, before, sealedForm(before.Connection), encrypt); err != nil {
		t.Fatalf("sealing %q: %v", id, err)
	}
	sealed, err := m.Row(ctx, id)
	if err != nil || !sealed.Connection.Equal(sealedForm(before.Connection)) {
		t.Fatalf("%q as sealed: %v", id, err)
	}
	if err := m.Rewrite(ctx, before, before.Connection, encrypt); err != nil {
		t.Errorf("%q: nothing to change: %v", id, err)
	}
	if err := m.Rewrite(ctx, sealed, before.Connection, encrypt); err != nil {
		t.Fatalf("unsealing %q: %v", id, err)
	}
	after, err := m.Row(ctx, id)
	if err != nil || !after.Connection.Equal(before.Connection) {
		t.Errorf("%q is another one afterwards: %v", id, err)
	}
}

func TestRowsOfEveryAirflowAreRewrittenAndPutBack(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			e := readExpected(t, version)
			m, encrypt := openForWriting(t, "sqlite:///"+copyMetastore(t, version), e.FernetKey)
			done := 0
			for id := range e.Connections {
				if _, err := m.Row(t.Context(), id); err != nil {
					continue // absent, unreadable, or one of several
				}
				thereAndBack(t, m, encrypt, id)
				if done++; done == rewritten {
					break
				}
			}
			if done < min(rewritten, 50) {
				t.Errorf("only %d rows were rewritten", done)
			}
		})
	}
}

// writable makes a metastore of 2.10's form with one row, and returns its path.
func writable(t *testing.T) string {
	t.Helper()
	path := copyMetastore(t, "2.10")
	execSQLite(t, path, "DELETE FROM connection")
	execSQLite(t, path, `INSERT INTO connection (conn_id, conn_type, host, password, is_encrypted, is_extra_encrypted, extra) VALUES ('a', 'http', 'h', 'plain', 0, 0, '{"b": 1}')`)
	return path
}

func execSQLite(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func querySQLite(t *testing.T, path, query string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var s sql.NullString
	if err := db.QueryRow(query).Scan(&s); err != nil {
		t.Fatal(err)
	}
	if !s.Valid {
		return "NULL"
	}
	return s.String
}

const testKey = "-6GE8YNTIRPIvdL1q6_QBUTi2OhZXDiTwnDwZEajuWM="

func TestRewriteStoresWhatAirflowWouldStore(t *testing.T) {
	path := writable(t)
	m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
	ctx := t.Context()
	rewrite := func(encrypt metastore.Encrypter, change func(*conn.Connection)) {
		t.Helper()
		r, err := m.Row(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		c := *r.Connection
		change(&c)
		if err := m.Rewrite(ctx, r, &c, encrypt); err != nil {
			t.Fatal(err)
		}
	}
	want := func(query, want string) {
		t.Helper()
		if got := querySQLite(t, path, "SELECT "+query+" FROM connection"); got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}

	// Sealed: in clear, whatever key there is, and no password at all.
	rewrite(encrypt, func(c *conn.Connection) { *c = *sealedForm(c) })
	want("password", "NULL")
	want("is_encrypted", "0")
	want("is_extra_encrypted", "0")
	want("substr(extra, 1, 17)", `{"connfs_sealed":`)

	// Put back: tokens, flagged.
	rewrite(encrypt, func(c *conn.Connection) {
		c.Password, c.Extra = conn.NewSecret("p"), conn.NewSecret("{}")
	})
	want("is_encrypted", "1")
	want("is_extra_encrypted", "1")
	want("substr(password, 1, 5)", "gAAAA")
	want("substr(extra, 1, 5)", "gAAAA")

	// What does not change stays as it is stored.
	token := querySQLite(t, path, "SELECT password FROM connection")
	rewrite(encrypt, func(c *conn.Connection) { c.Host, c.Extra = nil, conn.NewSecret("") })
	want("password", token)
	want("host", "NULL")
	want("extra", "")
	want("is_extra_encrypted", "0")

	// Without a key: in clear.
	rewrite(nil, func(c *conn.Connection) { c.Password, c.Host = conn.NewSecret("q"), text("h2") })
	want("password", "q")
	want("is_encrypted", "0")
	want("host", "h2")
}

func TestARowThatChangedMeanwhileIsLeftAlone(t *testing.T) {
	for column, change := range map[string]string{
		"password": "'PLAIN'", "host": "NULL", "port": "1", "extra": `'{"b": 2}'`,
		"is_encrypted": "NULL", "login": "''", "description": "'x'",
	} {
		path := writable(t)
		m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
		r, err := m.Row(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		execSQLite(t, path, "UPDATE connection SET "+column+" = "+change)
		before, _ := os.ReadFile(path)
		err = m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt)
		if conn.KindOf(err) != conn.Changed {
			t.Errorf("%s: %v", column, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s: the database was written to", column)
		}
	}
	path := writable(t)
	m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
	r, _ := m.Row(t.Context(), "a")
	execSQLite(t, path, "DELETE FROM connection")
	err := m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt)
	if conn.KindOf(err) != conn.Changed {
		t.Errorf("deleted: %v", err)
	}
}

func TestWhatTheDatabaseDoesNotKeepIsUndone(t *testing.T) {
	path := writable(t)
	m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
	// As a column that cuts what is too long, without a word.
	execSQLite(t, path, "CREATE TRIGGER cut AFTER UPDATE ON connection BEGIN UPDATE connection "+
		"SET extra = substr(extra, 1, 100) WHERE id = NEW.id; END")
	r, err := m.Row(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	err = m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt)
	if conn.KindOf(err) != conn.Failed {
		t.Errorf("cut: %v", err)
	}
	execSQLite(t, path, "DROP TRIGGER cut")
	execSQLite(t, path, "CREATE TRIGGER other AFTER UPDATE ON connection BEGIN UPDATE connection "+
		"SET login = 'x' WHERE id = NEW.id; END")
	err = m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt)
	if conn.KindOf(err) != conn.Failed {
		t.Errorf("another column: %v", err)
	}
	if got := querySQLite(t, path, "SELECT password || extra || coalesce(login, '') FROM "+
		"connection"); got != `plain{"b": 1}` {
		t.Errorf("the row is %q", got)
	}
}

func TestWritingWaitsForOtherWritersAsLongAsItMay(t *testing.T) {
	path := writable(t)
	m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
	r, err := m.Row(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = m.Rewrite(short, r, sealedForm(r.Connection), encrypt)
	if conn.KindOf(err) != conn.Timeout {
		t.Errorf("while another writes: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt) }()
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestRowsThatCannotBeSealedSaySo(t *testing.T) {
	path := writable(t)
	m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
	r, err := m.Row(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	c := *r.Connection
	c.Type = nil
	if err := m.Rewrite(t.Context(), r, &c, encrypt); conn.KindOf(err) != conn.Invalid {
		t.Errorf("without a type: %v", err)
	}
	if _, err := m.Row(t.Context(), "b"); conn.KindOf(err) != conn.Absent {
		t.Errorf("no such row: %v", err)
	}
	old, oldEncrypt := openForWriting(t, "sqlite:///"+copyMetastore(t, "1.10"), testKey)
	twice := 0
	for id := range readExpected(t, "1.10").Connections {
		if _, err := old.Row(t.Context(), id); err != nil &&
			strings.Contains(err.Error(), "several rows") {
			twice++
		}
	}
	if twice == 0 {
		t.Error("the data of 1.10 has no id with several rows")
	}
	_ = oldEncrypt
	if os.Geteuid() == 0 {
		return // may write anywhere
	}
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o700) })
	err = m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt)
	if conn.KindOf(err) != conn.Denied {
		t.Errorf("in a directory that cannot be written to: %v", err)
	}
}

func TestSealedRowsAreFound(t *testing.T) {
	path := writable(t)
	m, encrypt := openForWriting(t, "sqlite:///"+path, testKey)
	found := func() string {
		t.Helper()
		rows, err := m.SealedRows(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return strings.Join(ids, " ")
	}
	if got := found(); got != "" {
		t.Errorf("before: %q", got)
	}
	r, err := m.Row(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Rewrite(t.Context(), r, sealedForm(r.Connection), encrypt); err != nil {
		t.Fatal(err)
	}
	if got := found(); got != "a" {
		t.Errorf("in clear: %q", got)
	}
	// As Airflow stores it after somebody edited the extra.
	extra, _ := sealedForm(r.Connection).Extra.Reveal()
	token, err := encrypt.Encrypt([]byte(extra))
	if err != nil {
		t.Fatal(err)
	}
	execSQLite(t, path, "UPDATE connection SET is_extra_encrypted = 1, extra = '"+token+"'")
	if got := found(); got != "a" {
		t.Errorf("encrypted by Airflow: %q", got)
	}
}
