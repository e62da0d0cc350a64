// Package audit writes one JSON line for each decision: who asked for what, whether
// it was allowed and by which rule, and how it ended. A line never holds a secret,
// and a hostile id or path cannot forge one.
package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Log writes entries to a file or to standard error. It may be used concurrently.
type Log struct {
	path     string // empty: w is not a file of ours
	refusals refusals

	mu  sync.Mutex
	w   io.Writer
	f   *os.File
	buf []byte
}

// Open opens the audit log: a path, which is made with mode 0600 and appended to,
// or "-" for standard error.
func Open(file string) (*Log, error) {
	if file == "-" {
		return NewLog(os.Stderr), nil
	}
	f, err := openFile(file)
	if err != nil {
		return nil, err
	}
	l := NewLog(f)
	l.path, l.f = file, f
	return l, nil
}

// NewLog returns a log that writes to w.
func NewLog(w io.Writer) *Log {
	l := &Log{w: w}
	l.refusals.write = func(e *Entry) { l.write(e) }
	return l
}

func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("opening the audit file %s: %w", path, err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("opening the audit file %s: not a regular file", path)
	}
	return f, nil
}

// Reopen opens the file anew, as after a rotation by rename. On an error the old
// one stays in use.
func (l *Log) Reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := openFile(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f.Close()
	l.f, l.w = f, f
	return nil
}

// Write writes e with one write(2), and returns the error of that write. Refusals
// that repeat themselves, or are too many, are summed and written later.
func (l *Log) Write(e *Entry) error {
	if e.Errno != "" && !l.refusals.admit(e) {
		return nil
	}
	return l.write(e)
}

func (l *Log) write(e *Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = e.append(l.buf[:0])
	_, err := l.w.Write(l.buf)
	return err
}

// Close writes the sums of refusals that are still open, and closes the file.
func (l *Log) Close() error {
	l.refusals.close()
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
