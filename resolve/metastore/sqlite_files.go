package metastore

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/backend"
)

// sqliteMode is how SQLite must open a database to read it without writing.
type sqliteMode uint8

const (
	// With SQLite's own locks, on the database file (rollback journal) or in the -shm
	// file that writers keep beside their write-ahead log.
	_ sqliteMode = iota
	// sqliteQuiet: a write-ahead-log database at rest, all of it in the database file.
	// Reading it properly would create the -wal and -shm files, so SQLite is told that
	// the file is immutable, and connfs checks before and after that it was.
	sqliteQuiet
)

// sqliteState is what the files of a database look like from outside.
type sqliteState struct {
	path string // of the database, symbolic links followed: the log lies beside that
	mode sqliteMode
	wal  bool // the header says write-ahead log
	db   backend.FileStamp
	log  backend.FileStamp // of the -wal file; zero: no such file
}

// key is the part of the state for which an open handle stays good.
func (s sqliteState) key() sqliteState {
	if s.mode == sqliteQuiet {
		return s
	}
	return sqliteState{path: s.path, mode: s.mode, wal: s.wal,
		db: backend.FileStamp{Dev: s.db.Dev, Ino: s.db.Ino}}
}

// sqliteGuard holds the database file open, with SQLite's shared lock on it. While that
// is held no writer can fold the write-ahead log into the database and delete it, nor
// begin to keep one: what state says about the files stays true, and SQLite has no
// reason to make one.
type sqliteGuard struct {
	path string
	file *os.File
}

// The bytes of a database file that SQLite locks to say that someone reads.
const (
	sqliteSharedFirst = 0x40000000 + 2
	sqliteSharedSize  = 510
)

// resolveSQLite returns the path of a database, symbolic links followed: its log lies beside that.
// Nobody but root and the user of this process may be able to change either: whoever can would
// have another database read with the rights of connfs, or this one with rows of their own. SQLite
// opens its files by their names, and so in no directory where others could make them.
func resolveSQLite(path string) (string, error) {
	resolved, _, err := sqliteOwners().Resolve(path)
	if err != nil {
		return "", sqliteFileError(path, err)
	}
	return resolved, nil
}

func sqliteOwners() trust.Owners { return trust.Own().Alone() }

func guardSQLite(path string) (*sqliteGuard, error) {
	resolved, err := resolveSQLite(path)
	if err != nil {
		return nil, err
	}
	file, _, err := regularfile.Open(resolved, 0, sqliteOwners())
	switch {
	case errors.Is(err, regularfile.ErrNotRegular):
		return nil, conn.Errorf(conn.Unreachable, "metastore", "%s is not a regular file", resolved)
	case err != nil:
		return nil, sqliteFileError(resolved, err)
	}
	g := &sqliteGuard{path: resolved, file: file}
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: sqliteSharedFirst, Len: sqliteSharedSize}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		file.Close()
		return nil, conn.Errorf(conn.Timeout, "metastore", "the database is locked")
	}
	// A file system without locks: SQLite itself will find out.
	return g, nil
}

// Close lets go of the lock with the descriptor.
func (g *sqliteGuard) Close() error { return g.file.Close() }

// wal says whether the header names a write-ahead log. A file too short for a header
// is an empty database to SQLite.
func (g *sqliteGuard) wal() (bool, error) {
	var header [20]byte
	if _, err := g.file.ReadAt(header[:], 0); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, sqliteFileError(g.path, err)
	}
	return header[18] == 2 || header[19] == 2, nil
}

// state looks at the files.
func (g *sqliteGuard) state() (sqliteState, error) {
	s := sqliteState{path: g.path}
	info, err := os.Stat(g.path)
	if err != nil {
		return s, sqliteFileError(g.path, err)
	}
	s.db = backend.StampOf(info)
	if s.wal, err = g.wal(); err != nil {
		return s, err
	}
	_, log, err := sqliteOwners().Resolve(g.path + "-wal")
	switch {
	case err == nil:
		s.log = backend.StampOf(log)
	case !errors.Is(err, fs.ErrNotExist):
		return s, sqliteFileError(g.path+"-wal", err)
	}
	if !s.wal && s.log.Size == 0 {
		return s, nil
	}
	_, _, err = sqliteOwners().Resolve(g.path + "-shm")
	switch {
	case err == nil && log != nil:
		return s, sqliteReadable(g.path+"-wal", g.path+"-shm")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return s, sqliteFileError(g.path+"-shm", err)
	case s.log.Size > 0:
		// SQLite would have to write the index of the log to know what is in it, and
		// without the log the rows are old.
		e := conn.Errorf(conn.Unreachable, "metastore",
			"%s-wal holds rows, and without %s-shm they cannot be read", g.path, g.path)
		e.Hint = "let Airflow open the database once"
		return s, e
	}
	s.mode = sqliteQuiet
	return s, nil
}

// sqliteReadable answers Denied for the first of the paths that this process may not
// read, which SQLite would call a file that cannot be opened.
func sqliteReadable(paths ...string) error {
	for _, path := range paths {
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS); err != nil {
			return sqliteFileError(path, err)
		}
	}
	return nil
}

func sqliteFileError(path string, err error) error {
	kind := conn.Unreachable
	if errors.Is(err, fs.ErrPermission) {
		kind = conn.Denied
	}
	return backend.FileError(kind, "metastore", path, err)
}
