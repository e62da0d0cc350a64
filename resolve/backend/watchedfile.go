package backend

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// maxWatchedFile is the largest file of connections that is read, in bytes.
const maxWatchedFile = 16 << 20

// racyAge is how old a file's last change must be for its time to prove that a
// later change would show: below it, two changes can carry the same time.
const racyAge = 2 * time.Second

// WatchedFile is a file whose content is parsed again when it changes. Whenever it is read, nobody
// but root and the user of this process may be able to change it.
type WatchedFile[T any] struct {
	Path   string
	Source string // the backend, for errors
	// Parse reads the content. Its error is a *conn.Error, and is kept like a value.
	Parse func(path string, text []byte) (T, error)

	mu    sync.Mutex
	stamp FileStamp // of what value was read from; zero: read again
	value T
	err   error // parsing's
}

// FileStamp tells one state of a file from another.
type FileStamp struct {
	Dev, Ino     uint64 // which file it is
	Size         int64  // in bytes
	mtime, ctime syscall.Timespec
}

// StampOf returns the stamp of a file by what stat says about it.
func StampOf(info fs.FileInfo) FileStamp {
	s := FileStamp{Size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Dev, s.Ino, s.mtime, s.ctime = uint64(st.Dev), st.Ino, st.Mtim, st.Ctim
	}
	return s
}

// Read returns what the file says now. The value is shared: nobody changes it.
func (f *WatchedFile[T]) Read() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	var none T
	info, err := os.Stat(f.Path)
	if err != nil {
		return none, f.failure(err)
	}
	if f.stamp != (FileStamp{}) && StampOf(info) == f.stamp {
		return f.value, f.err
	}
	f.stamp = FileStamp{}
	text, stamp, err := f.load()
	if err != nil {
		return none, err
	}
	f.value, f.err = f.Parse(f.Path, text)
	changed := time.Unix(stamp.ctime.Unix())
	if time.Since(changed) > racyAge {
		f.stamp = stamp
	}
	return f.value, f.err
}

// load reads the file. One that is written meanwhile is read again: half of it is not what
// anybody wrote.
func (f *WatchedFile[T]) load() ([]byte, FileStamp, error) {
	for range 10 {
		text, before, after, err := f.loadOnce()
		if err != nil || before == after {
			return text, before, err
		}
	}
	return nil, FileStamp{}, conn.Errorf(conn.Unreachable, f.Source, "%s changes while it is read",
		f.Path)
}

func (f *WatchedFile[T]) loadOnce() (text []byte, before, after FileStamp, err error) {
	file, info, err := regularfile.Open(f.Path, 0, trust.Own())
	if err != nil {
		return nil, before, after, f.failure(err)
	}
	defer file.Close()
	if text, err = regularfile.ReadAll(file, maxWatchedFile); err != nil {
		return nil, before, after, f.failure(err)
	}
	again, err := file.Stat()
	if err != nil {
		return nil, before, after, f.failure(err)
	}
	before, after = StampOf(info), StampOf(again)
	if st, ok := again.Sys().(*syscall.Stat_t); ok && st.Nlink == 0 {
		// Another file took its place, which is a change of this one, and not of its text.
		after.ctime = before.ctime
	}
	return text, before, after, nil
}

// failure returns the answer where the file cannot be read.
func (f *WatchedFile[T]) failure(err error) error {
	var large *regularfile.TooLargeError
	switch {
	case errors.As(err, &large):
		return conn.Errorf(conn.Invalid, f.Source, "%s is larger than 16 MiB", f.Path)
	case errors.Is(err, regularfile.ErrNotRegular):
		return conn.Errorf(conn.Unreachable, f.Source, "%s is not a regular file", f.Path)
	case errors.Is(err, fs.ErrPermission):
		return FileError(conn.Denied, f.Source, f.Path, err)
	}
	return FileError(conn.Unreachable, f.Source, f.Path, err)
}
