package metastore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/retry"
	"github.com/connfs/connfs/resolve/backend"
)

// sqliteFile is a metastore in an SQLite file. Reading never writes to it or beside it.
//
// One file can be a rollback-journal database today, one with a write-ahead log
// tomorrow, and another file after a restore. So each read looks at the files first,
// and a connection is kept only as long as they stay of the same kind.
type sqliteFile struct {
	path string // absolute

	mu   sync.Mutex
	open *sqliteHandle // the newest one; nil: none yet
}

// sqliteHandle is an open database and the state that it was opened for.
type sqliteHandle struct {
	db    *sql.DB
	state sqliteState
	users int  // reads under way
	stale bool // close it after the last of them
}

// busyPause is how long to wait before asking a locked database again.
const busyPause = 5 * time.Millisecond

// ofdLocks makes SQLite lock files by descriptor rather than by process, once for the
// process: with the other kind of lock, closing any descriptor of the file drops
// SQLite's locks on it, and connfs opens the file to look at its header.
var ofdLocks = sync.OnceFunc(func() { _, _ = sqlite.OFDLocking(true) })

func openSQLite(u *sqlURL) (database, error) {
	if u.User != "" || u.Password != "" || u.Host != "" || u.Port != 0 {
		return nil, fmt.Errorf("an SQLite URL has no user, host or port: sqlite:////absolute/path")
	}
	if u.Database == "" || u.Database == ":memory:" || strings.HasPrefix(u.Database, "file:") {
		return nil, fmt.Errorf("the SQLite URL names no file: sqlite:////absolute/path")
	}
	err := u.Query.apply("SQLite", map[string]setter{
		"timeout":           noEffect, // the deadline of the read counts
		"check_same_thread": noEffect,
		"cached_statements": noEffect,
		"isolation_level":   noEffect,
		"detect_types":      noEffect,
	})
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(u.Database)
	if err != nil {
		return nil, fmt.Errorf("the SQLite URL is relative, and the working directory is unknown")
	}
	ofdLocks()
	return &sqliteFile{path: path}, nil
}

// read implements database.
func (s *sqliteFile) read(ctx context.Context, used tables,
	f func(context.Context, *sql.Conn) error) error {
	return retry.Do(ctx, func(int) (time.Duration, error) {
		again, err := s.try(ctx, used, f)
		if !again {
			return retry.Stop, err
		}
		return busyPause, err
	})
}

// try reads once. again says that the files changed meanwhile or are locked; the error then is
// the answer where there is no time to try again.
func (s *sqliteFile) try(ctx context.Context, used tables,
	f func(context.Context, *sql.Conn) error) (
	again bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, backend.ContextError("metastore", err)
	}
	guard, err := guardSQLite(s.path)
	if err != nil {
		return conn.KindOf(err) == conn.Timeout, err
	}
	// It only read, and its locks end with it.
	defer func() { _ = guard.Close() }()
	state, err := guard.state()
	if err != nil {
		return false, err
	}
	h := s.handle(state)
	defer s.release(h)

	err = func() error {
		c, err := h.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		err = f(ctx, c)
		if errorCode(err) == sqlite3.SQLITE_ERROR && !hasTables(ctx, c, used) {
			return used.missing(err)
		}
		return err
	}()
	if state.mode == sqliteQuiet {
		// SQLite was told that nothing changes: that must have been true.
		after, stateErr := guard.state()
		if stateErr != nil {
			return false, stateErr
		}
		if after != state {
			s.discard(h)
			return true, conn.Errorf(conn.Timeout, "metastore",
				"the database kept changing until the deadline")
		}
	}
	if err == nil {
		return false, nil
	}
	err = classifySQLite(ctx, err)
	return conn.KindOf(err) == conn.Timeout && ctx.Err() == nil, err
}

// handle returns a handle for state, a new one if the newest is for another.
func (s *sqliteFile) handle(state sqliteState) *sqliteHandle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || s.open.state.key() != state.key() {
		s.drop(s.open)
		parameters := url.Values{
			"mode":         {"ro"},
			"readonly_shm": {"1"}, // never create the -shm file
			"_pragma":      {"query_only(1)", "trusted_schema(0)"},
		}
		if state.mode == sqliteQuiet {
			parameters.Set("immutable", "1")
		}
		db, err := sql.Open("sqlite", fileURI(state.path, parameters))
		if err != nil {
			// sql.Open fails only for a driver that is not registered.
			panic(err)
		}
		db.SetMaxOpenConns(maxConns)
		db.SetMaxIdleConns(maxConns)
		db.SetConnMaxIdleTime(maxIdleTime)
		s.open = &sqliteHandle{db: db, state: state}
	}
	s.open.users++
	return s.open
}

func (s *sqliteFile) release(h *sqliteHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.users--
	if h.stale && h.users == 0 {
		h.db.Close()
	}
}

// discard keeps h from being used again.
func (s *sqliteFile) discard(h *sqliteHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(h)
}

// drop closes h once nobody uses it; s.mu is held.
func (s *sqliteFile) drop(h *sqliteHandle) {
	if h == nil || h.stale {
		return
	}
	h.stale = true
	if s.open == h {
		s.open = nil
	}
	if h.users == 0 {
		h.db.Close()
	}
}

// Close implements database.
func (s *sqliteFile) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(s.open)
	return nil
}

func (s *sqliteFile) quote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func (s *sqliteFile) placeholder() string { return "?" }

func (s *sqliteFile) argument(int) string { return "?" }

func (s *sqliteFile) same(column, argument string, _ any) string {
	return column + " IS " + argument
}

// forUpdate: a transaction that is there to write has the whole database for itself.
func (s *sqliteFile) forUpdate() string { return "" }

func (s *sqliteFile) holds(id string) bool { return utf8.ValidString(id) }

// text takes only SQLite's own text for text: a blob is bytes to Airflow, too.
func (s *sqliteFile) text(value any) (string, bool) {
	v, ok := value.(string)
	return v, ok
}

// errorCode returns the result code of SQLite in an error; SQLITE_OK where it has none.
func errorCode(err error) int {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return sqlite3.SQLITE_OK
	}
	return se.Code()
}

// hasTables reports whether there are such tables. SQLite has one code for whatever is wrong
// with a statement, and tells what only in words.
func hasTables(ctx context.Context, c *sql.Conn, used tables) bool {
	for _, name := range used.names {
		var found int
		err := c.QueryRowContext(ctx,
			"SELECT 1 FROM pragma_table_list"+
				" WHERE name = ? COLLATE NOCASE AND schema = ? COLLATE NOCASE",
			name, cmp.Or(used.schema, "main")).Scan(&found)
		if errors.Is(err, sql.ErrNoRows) {
			return false
		}
	}
	return true
}

// classifySQLite is the table of SQLite's result codes.
func classifySQLite(ctx context.Context, err error) error {
	var ce *conn.Error
	if errors.As(err, &ce) {
		return ce
	}
	if ctx.Err() != nil {
		return backend.ContextError("metastore", ctx.Err())
	}
	answer := func(kind conn.Kind, reason string) error {
		return &conn.Error{Kind: kind, Source: "metastore", Reason: reason, Err: err}
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return answer(conn.Unreachable, "the database cannot be read")
	}
	switch se.Code() {
	case sqlite3.SQLITE_READONLY_ROLLBACK:
		return answer(conn.Unreachable, "the last writer left a transaction half done, which "+
			"only a writer can undo: let Airflow open the database once")
	case sqlite3.SQLITE_READONLY_RECOVERY, sqlite3.SQLITE_READONLY_CANTINIT:
		// The write-ahead log is between two states: as good as locked.
		return answer(conn.Timeout, "the write-ahead log is being recovered")
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return answer(conn.Timeout, "the database is locked")
	case sqlite3.SQLITE_CORRUPT:
		return answer(conn.Unreachable, "the database disk image is malformed")
	case sqlite3.SQLITE_NOTADB:
		return answer(conn.Unreachable, "the file is not an SQLite database")
	case sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return answer(conn.Denied, "access to the database file is denied")
	case sqlite3.SQLITE_CANTOPEN:
		return answer(conn.Unreachable, "the database file cannot be opened")
	case sqlite3.SQLITE_IOERR:
		return answer(conn.Unreachable, "the database file cannot be read")
	case sqlite3.SQLITE_INTERRUPT:
		return answer(conn.Timeout, "the query was interrupted")
	}
	return answer(conn.Unreachable, fmt.Sprintf("the query failed with SQLite's code %d",
		se.Code()))
}
