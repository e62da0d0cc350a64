package metastore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/metastore"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// table is Airflow 2.10's, which all rows of these tests are written to.
const table = `CREATE TABLE connection (id INTEGER PRIMARY KEY, conn_id VARCHAR(250) NOT NULL UNIQUE, conn_type VARCHAR(500) NOT NULL,
	description TEXT, host VARCHAR(500), schema VARCHAR(500), login TEXT, password TEXT, port INTEGER,
	is_encrypted BOOLEAN, is_extra_encrypted BOOLEAN, extra TEXT)`

// openWriter opens a database as its owner does.
func openWriter(t *testing.T, path string, statements ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return db
}

func insert(id, host string) string {
	return fmt.Sprintf(
		"INSERT INTO connection (conn_id, conn_type, host) VALUES ('%s', 'http', '%s')", id, host)
}

func openSQLite(t *testing.T, path string) *metastore.Store {
	t.Helper()
	m, err := metastore.Open(metastore.Settings{URL: "sqlite:///" + path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// insertRow writes a connection, unencrypted, by the placeholders of a database.
func insertRow(t *testing.T, db *sql.DB, statement, id string, c *conn.Connection) {
	t.Helper()
	value := func(s conn.Secret) any {
		if v, ok := s.Reveal(); ok {
			return v
		}
		return nil
	}
	if _, err := db.Exec(statement, id, c.Type, c.Description, c.Host, c.Schema, c.Login,
		value(c.Password), c.Port, value(c.Extra)); err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteConforms(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s held=%v", mode, held), func(t *testing.T) {
				resolvetest.Run(t, resolvetest.Harness{
					New: func(t *testing.T,
						connections map[string]*conn.Connection) backend.Backend {
						path := filepath.Join(t.TempDir(), "airflow.db")
						db := openWriter(t, path, "PRAGMA journal_mode="+mode, table)
						for id, c := range connections {
							insertRow(t, db, "INSERT INTO connection (conn_id, conn_type, "+
								"description, host, schema, login, password, port, extra) VALUES "+
								"(?, ?, ?, ?, ?, ?, ?, ?, ?)", id, c)
						}
						if !held {
							db.Close()
						}
						return openSQLite(t, path)
					},
					Unreachable: func(t *testing.T) backend.Backend {
						return openSQLite(t,
							filepath.Join(t.TempDir(), "airflow.db"))
					},
				})
			})
		}
	}
}

// files returns the names, sizes and times of what lies in a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("%d bytes, %v, %v", info.Size(), info.Mode(),
			info.ModTime().UnixNano())
	}
	return all
}

// Whatever the owner does, the newest row is served, and nothing is written beside the
// database: the directory can be written, and SQLite left alone would.
func TestSQLiteSeesEveryChangeAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "airflow.db")
	m := openSQLite(t, path)
	check := func(step, want string) {
		t.Helper()
		before := files(t, dir)
		for range 2 {
			c, err := m.Connection(t.Context(), "x")
			if err != nil || resolvetest.HostOf(c) != want {
				t.Errorf("%s: host %q, %v; want %q", step, resolvetest.HostOf(c), err, want)
			}
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s: reading changed the directory (-before +after):\n%s", step, diff)
		}
	}
	exec := func(db *sql.DB, statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	db := openWriter(t, path, table, insert("x", "rollback"))
	check("rollback journal", "rollback")
	exec(db, "UPDATE connection SET host = 'rollback2'")
	check("rollback journal, changed", "rollback2")
	exec(db, "PRAGMA journal_mode=wal")
	check("turned to a write-ahead log", "rollback2")
	exec(db, "UPDATE connection SET host = 'logged'")
	check("in the log", "logged")
	exec(db, "UPDATE connection SET host = 'logged2'")
	check("in the log, again", "logged2")
	exec(db, "PRAGMA wal_checkpoint(TRUNCATE)")
	check("folded in, log empty", "logged2")
	exec(db, "UPDATE connection SET host = 'logged3'")
	check("in the log once more", "logged3")
	m.Close()
	db.Close()
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Fatal("the log is still there: the owner is not the last to close")
	}
	check("at rest", "logged3")
	db = openWriter(t, path, "UPDATE connection SET host = 'restarted'")
	check("owner back", "restarted")
	m.Close()
	db.Close()
	check("at rest again", "restarted")
	other := filepath.Join(t.TempDir(), "other.db")
	openWriter(t, other, table, insert("x", "restored")).Close()
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	check("another file in its place", "restored")
}

// A crashed owner leaves rows in the log: they count, or the answer is an error, and are
// never passed over.
func TestSQLiteLogOfACrashedOwner(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "airflow.db")
	db := openWriter(t, path, "PRAGMA journal_mode=wal", table, insert("x", "old"),
		"PRAGMA wal_checkpoint(TRUNCATE)", "UPDATE connection SET host = 'new'")
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	db.Close()

	path = filepath.Join(crashed, "airflow.db")
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, crashed)
	c, err := openSQLite(t, path).Connection(t.Context(), "x")
	if resolvetest.HostOf(c) != "new" {
		t.Errorf("with the index: host %q, %v", resolvetest.HostOf(c), err)
	}
	if diff := cmp.Diff(before, files(t, crashed)); diff != "" {
		t.Errorf("reading changed the directory (-before +after):\n%s", diff)
	}
	if err := os.Truncate(path+"-wal", 0); err != nil {
		t.Fatal(err)
	}
	if c, err := openSQLite(t, path).Connection(t.Context(), "x"); resolvetest.HostOf(c) != "old" {
		t.Errorf("with an index, and an empty log: host %q, %v", resolvetest.HostOf(c), err)
	}
	if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + "-shm"); err != nil {
		t.Fatal(err)
	}
	c, err = openSQLite(t, path).Connection(t.Context(), "x")
	if conn.KindOf(err) != conn.Unreachable || !strings.Contains(err.Error(), "-wal holds rows") {
		t.Errorf("without the index: host %q, %v", resolvetest.HostOf(c), err)
	}
	if _, err := os.Stat(path + "-shm"); err == nil {
		t.Error("reading made the index")
	}
}

func TestSQLiteUnusableDatabases(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := filepath.Join(dir, "good.db")
	openWriter(t, good, table, manyRows("c", "hunter2", 2000)).Close()
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), text...)
	for i := 4096; i < len(damaged); i++ {
		damaged[i] ^= 0x5a
	}
	noTable := filepath.Join(dir, "notable.db")
	openWriter(t, noTable, "CREATE TABLE other (x)")
	noColumn := filepath.Join(dir, "nocolumn.db")
	openWriter(t, noColumn, "CREATE TABLE connection (id, conn_id)")

	for _, c := range []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "missing.db"),
			"metastore: unreachable: " + filepath.Join(dir, "missing.db") +
				": no such file or directory"},
		{"empty file", write("empty.db", nil),
			"metastore: unreachable: the database has no table connection (is this Airflow's " +
				"database, and sql_alchemy_schema right?)"},
		{"no table", noTable, "metastore: unreachable: the database has no table connection (is " +
			"this Airflow's database, and sql_alchemy_schema right?)"},
		{"no column", noColumn, "metastore: unreachable: the table connection has no column " +
			"conn_type (is this Airflow's database?)"},
		{"a directory", dir, "metastore: unreachable: " + dir + " is not a regular file"},
		{"text", write("text.db", []byte(strings.Repeat("hunter2 ", 200))),
			"metastore: unreachable: the file is not an SQLite database"},
		{"cut short", write("cut.db", text[:len(text)/3]),
			"metastore: unreachable: the database disk image is malformed"},
		{"damaged", write("damaged.db", damaged),
			"metastore: unreachable: the database disk image is malformed"},
	} {
		_, err := openSQLite(t, c.path).Connection(t.Context(), "c2000")
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
		if _, err := openSQLite(t, c.path).List(t.Context()); conn.KindOf(err) != conn.Unreachable {
			t.Errorf("%s: list: %v", c.name, err)
		}
	}
}

func TestSQLiteRowThatIsTooLarge(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		kind conn.Kind
	}{
		"at the bound": {2<<20 - len("http"), 0},
		"over it":      {2<<20 - len("http") + 1, conn.TooLarge},
	} {
		for _, column := range []string{"password", "extra", "description", "host"} {
			path := filepath.Join(t.TempDir(), "airflow.db")
			openWriter(t, path, table, fmt.Sprintf(
				"INSERT INTO connection (conn_id, conn_type, %s) VALUES ('x', 'http', '%s')",
				column, strings.Repeat("x", c.size))).Close()
			m := openSQLite(t, path)
			_, err := m.Connection(t.Context(), "x")
			if (err == nil) != (c.kind == 0) || err != nil && conn.KindOf(err) != c.kind {
				t.Errorf("%s, %s: %v", name, column, err)
			}
			if _, err := m.Row(t.Context(), "x"); (err == nil) != (c.kind == 0) {
				t.Errorf("%s, %s: to be sealed: %v", name, column, err)
			}
			if ids, err := m.List(t.Context()); len(ids) != 1 || err != nil {
				t.Errorf("%s, %s: listed %q: %v", name, column, ids, err)
			}
		}
	}
}

func TestSQLiteLockedDatabaseIsATimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "airflow.db")
	db := openWriter(t, path, table, insert("x", "h"), "BEGIN EXCLUSIVE")
	m := openSQLite(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := m.Connection(ctx, "x")
	if conn.KindOf(err) != conn.Timeout || time.Since(start) > resolvetest.Patience {
		t.Errorf("locked: %v after %v", err, time.Since(start))
	}
	done := make(chan error)
	go func() {
		_, err := m.Connection(context.WithoutCancel(ctx), "x")
		done <- err
	}()
	if _, err := db.Exec("COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("unlocked meanwhile: %v", err)
	}
}

func TestSQLiteRowsOfOddTypes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "airflow.db")
	openWriter(t, path, strings.Replace(table, "NOT NULL UNIQUE", "", 1),
		"INSERT INTO connection (conn_id, conn_type, port) VALUES ('text port', 'a', 'abc'), "+
			"('real port', 'a', 1.5), ('blob port', 'a', x'00'), ('whole port', 'a', '5432'), "+
			"('64 bits', 'a', 9223372036854775807), ('negative', 'a', -3)",
		"INSERT INTO connection (conn_id, conn_type, host) VALUES ('blob host', 'a', x'68'), "+
			"('broken text', 'a', CAST(x'ff' AS TEXT)), ('NUL', 'a', 'a' || char(0) || 'b')",
		"INSERT INTO connection (conn_id, conn_type, password, is_encrypted) VALUES ('odd flag', "+
			"'a', 'x', 'maybe'), ('large flag', 'a', 'x', 7), ('no flag', 'a', 'x', NULL), "+
			"('no password', 'a', NULL, 1), ('empty password', 'a', '', 1)",
		"INSERT INTO connection (id, conn_id, conn_type, host) VALUES (90, 'twice', 'a', "+
			"'second'), (80, 'twice', 'a', 'first'), (70, NULL, 'a', ''), (71, '', 'a', 'none'), "+
			"(72, x'6162', 'a', 'blob')",
		"INSERT INTO connection (conn_id, conn_type) VALUES ('n' || char(0) || 'ul', 'a')",
	)
	m := openSQLite(t, path)
	for id, want := range map[string]conn.Kind{
		"text port": conn.Invalid, "real port": conn.Invalid, "blob port": conn.Invalid,
		"blob host": conn.Invalid, "broken text": conn.Invalid,
		"odd flag": conn.Invalid, "large flag": conn.KeyRejected, "ab": conn.Absent,
		"n": conn.Absent,
	} {
		if _, err := m.Connection(t.Context(), id); conn.KindOf(err) != want {
			t.Errorf("%q: %v, want %v", id, err, want)
		}
	}
	for _, id := range []string{"whole port", "64 bits", "negative", "NUL", "no flag",
		"no password", "empty password", "twice", "", "n\x00ul"} {
		if _, err := m.Connection(t.Context(), id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if c, _ := m.Connection(t.Context(), "twice"); resolvetest.HostOf(c) != "first" {
		t.Errorf("of two rows with one id the lowest number counts, not %q", resolvetest.HostOf(c))
	}
	ids, err := m.List(t.Context())
	if err != nil || len(ids) != 17 {
		t.Errorf("list: %d ids, %v: %q", len(ids), err, ids)
	}
}

func TestSQLiteFileNamesThatAURICouldMistake(t *testing.T) {
	for _, name := range []string{"a%20b.db", "a#b.db", "a b.db", "a&mode=rwc.db", "a'b.db",
		"ä.db"} {
		path := filepath.Join(t.TempDir(), "airflow.db")
		openWriter(t, path, table, insert("x", "h")).Close()
		renamed := filepath.Join(filepath.Dir(path), name)
		if err := os.Rename(path, renamed); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(renamed, link); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{renamed, link} {
			if _, err := openSQLite(t, p).Connection(t.Context(), "x"); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
}

func TestSQLiteSchema(t *testing.T) {
	path := copyMetastore(t, "2.10")
	for schema, want := range map[string]conn.Kind{"main": conn.Failed, "nowhere": conn.Unreachable,
		`a"; DROP TABLE x`: conn.Unreachable} {
		m, err := metastore.Open(metastore.Settings{URL: "sqlite:///" + path, Schema: schema}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Connection(t.Context(), "type_only")
		if (err == nil) != (want == conn.Failed) || err != nil && conn.KindOf(err) != want {
			t.Errorf("schema %q: %v", schema, err)
		}
		m.Close()
	}
}

// manyRows writes n rows, numbered from 1.
func manyRows(prefix, host string, n int) string {
	return fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO connection (conn_id, conn_type, host) SELECT '%s' || i, 'http', '%s' FROM n`, n, prefix, host)
}

func TestSQLiteListsManyRowsFast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "airflow.db")
	openWriter(t, path, table, manyRows("team_", "h", many)).Close()
	m := openSQLite(t, path)
	start := time.Now()
	ids, err := m.List(t.Context())
	if err != nil || len(ids) != many {
		t.Fatalf("%d ids, %v", len(ids), err)
	}
	if took := time.Since(start); took > resolvetest.Patience {
		t.Errorf("listing took %v", took)
	}
	start = time.Now()
	if _, err := m.Connection(t.Context(), fmt.Sprint("team_", many)); err != nil ||
		time.Since(start) > resolvetest.Patience {
		t.Errorf("one of them: %v after %v", err, time.Since(start))
	}
}

// readAs is set in the environment of the process that reads as another user.
const readAs = "CONNFS_TEST_READ_SQLITE"

func TestMain(m *testing.M) {
	if path := os.Getenv(readAs); path != "" {
		os.Exit(readSQLite(path))
	}
	os.Exit(m.Run())
}

// readSQLite reads one connection and prints its host or the error.
func readSQLite(path string) int {
	m, err := metastore.Open(metastore.Settings{URL: "sqlite:///" + path}, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c, err := m.Connection(context.Background(), "x")
	if err != nil {
		fmt.Println(err)
		return 0
	}
	fmt.Println(*c.Host)
	return 0
}

// Another user reads the database from a directory that it cannot write, in every state.
// Where the test does not run as root, that user is the test's own, without the right to
// write the directory.
func TestSQLiteReadByAUserWhoCannotWrite(t *testing.T) {
	dir, err := os.MkdirTemp("", "connfs-sqlite")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755); os.RemoveAll(dir) })
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "program")
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	resolvetest.WriteProgram(t, program, binary)
	chmod(program, 0o755)
	path := filepath.Join(dir, "airflow.db")
	read := func() string {
		t.Helper()
		chmod(dir, 0o555)
		defer chmod(dir, 0o755)
		before := files(t, dir)
		cmd := exec.Command(program)
		cmd.Env = []string{readAs + "=" + path}
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534,
				Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("reading changed the directory (-before +after):\n%s", diff)
		}
		return strings.TrimSpace(string(out))
	}
	check := func(step, want string) {
		t.Helper()
		if got := read(); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}

	db := openWriter(t, path, table, insert("x", "rollback"))
	chmod(path, 0o644)
	check("rollback journal", "rollback")
	if _, err := db.Exec("PRAGMA journal_mode=wal"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE connection SET host = 'logged'"); err != nil {
		t.Fatal(err)
	}
	check("write-ahead log, its owner running", "logged")
	chmod(path+"-wal", 0o600)
	chmod(path+"-shm", 0o600)
	if os.Getuid() == 0 {
		check("log that cannot be read", "metastore: denied: "+path+"-wal: permission denied")
	}
	db.Close()
	check("write-ahead log at rest", "logged")
	chmod(path, 0o000)
	check("database that cannot be read", "metastore: denied: "+path+": permission denied")
}
