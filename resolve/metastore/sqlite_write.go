package metastore

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/retry"
)

// write implements database. The connection is opened for this transaction alone, as any
// writer's: it recovers what a crashed writer left behind, and folds the write-ahead log
// into the database when it is the last to leave.
func (s *sqliteFile) write(ctx context.Context, used tables,
	f func(context.Context, *sql.Conn) error) error {
	path, err := resolveSQLite(s.path)
	if err != nil {
		return err
	}
	// A file that is not a database, or may not be read, gets the error that a read gives.
	err = s.read(ctx, used, func(context.Context, *sql.Conn) error { return nil })
	if err != nil && conn.KindOf(err) == conn.Denied {
		return err
	}
	options := url.Values{"mode": {"rw"}, "_pragma": {"trusted_schema(0)", "busy_timeout(0)"}}
	db, err := sql.Open("sqlite", fileURI(path, options))
	if err != nil {
		// sql.Open fails only for a driver that is not registered.
		panic(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	return refusedSQLite(ctx, s.transaction(ctx, db, f))
}

// transaction has the database for itself while f runs, and never for longer than until
// f returns.
func (s *sqliteFile) transaction(ctx context.Context, db *sql.DB,
	f func(context.Context, *sql.Conn) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := untilFree(ctx, c, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := f(ctx, c); err != nil {
		// Should this fail, closing the connection undoes the transaction.
		_, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return err
	}
	// Readers may be in the way of a commit, which can then be tried again.
	if err := untilFree(ctx, c, "COMMIT"); err != nil {
		_, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return err
	}
	return nil
}

// untilFree executes a statement as soon as nobody else's lock is in its way.
func untilFree(ctx context.Context, c *sql.Conn, statement string) error {
	return retry.Do(ctx, func(int) (time.Duration, error) {
		_, err := c.ExecContext(ctx, statement)
		var se *sqlite.Error
		if !errors.As(err, &se) || se.Code()&0xff != sqlite3.SQLITE_BUSY {
			return retry.Stop, err
		}
		return busyPause, err
	})
}

// refusedSQLite is classifySQLite for who writes.
func refusedSQLite(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	answer := func(e *conn.Error) error {
		e.Source, e.Err = "metastore", err
		return e
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_READONLY:
			return answer(mayNotWrite())
		case sqlite3.SQLITE_CANTOPEN:
			e := conn.Errorf(conn.Denied, "", "the database file cannot be opened for writing")
			e.Hint = "SQLite needs to write in its directory too"
			return answer(e)
		case sqlite3.SQLITE_FULL:
			return answer(conn.Errorf(conn.Unreachable, "", "the disk is full"))
		case sqlite3.SQLITE_CONSTRAINT:
			return answer(conn.Errorf(conn.Failed, "", "the row cannot hold this"))
		}
	}
	return classifySQLite(ctx, err)
}
