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
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where the lines go.
type Config struct {
	File     string // a path, "-" for standard error, "syslog" for the local syslog
	Required bool   // Write fails with what is not written in time
	Cgroup   bool   // lines name the caller's control group, which costs some microseconds each
}

// Log writes entries to a file, to standard error or to syslog. It may be used
// concurrently.
type Log struct {
	cfg      Config
	refusals refusals
	queue    queue
	fast     atomic.Pointer[fast] // nil: every line goes through the queue
	file     *os.File             // nil: what is written to is no file of ours
	syslog   io.Closer
}

// Open opens the audit log. A file is made with mode 0600 and appended to.
func Open(cfg Config) (*Log, error) {
	switch cfg.File {
	case "-":
		l := NewLog(os.Stderr, cfg)
		l.queue.direct = newDirect(os.Stderr, false)
		return l, nil
	case "syslog":
		s, err := openSyslog(syslogSocket)
		if err != nil {
			return nil, err
		}
		l := NewLog(s, cfg)
		l.syslog = s
		return l, nil
	}
	f, err := openFile(cfg.File)
	if err != nil {
		return nil, err
	}
	l := NewLog(f, cfg)
	l.file, l.queue.direct = f, newDirect(f, !cfg.Required)
	l.fast.Store(newFast(f, cfg.Required))
	return l, nil
}

// NewLog returns a log that writes to w, one line or several in each call.
func NewLog(w io.Writer, cfg Config) *Log {
	l := &Log{cfg: cfg}
	l.queue.w = w
	l.refusals.write = func(e *Entry) { l.queue.add(e) }
	return l
}

func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK,
		0o600)
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
	l.queue.mu.Lock()
	ours := l.file != nil
	l.queue.mu.Unlock()
	if !ours {
		return nil
	}
	f, err := openFile(l.cfg.File)
	if err != nil {
		return err
	}
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.queue.retire(l.file)
	l.file, l.queue.w, l.queue.direct = f, f, newDirect(f, !l.cfg.Required)
	l.fast.Store(newFast(f, l.cfg.Required))
	return nil
}

// patience is how long a reader waits for a slow sink where the audit is not
// required. While the sink stays stuck, those who come later do not wait at all.
const patience = 100 * time.Millisecond

// Write has e written, and returns when it is: a line is there before what it tells
// about happens. Where the audit is required, what is not written until the deadline
// is an error; elsewhere a sink that is stuck delays nobody, and lines that it cannot
// take are counted in a line of their own. Refusals that repeat themselves, or are
// too many, are summed and written later. Write fills in what only /proc knows.
func (l *Log) Write(e *Entry, until time.Time) error {
	refused := e.Errno != ""
	if refused && !l.refusals.admit(e) {
		return nil
	}
	// A readlink costs as much as the line: it is left out where an open is cheap.
	if refused || !e.Cached {
		e.Exe = exe(e.PID)
	}
	if l.cfg.Cgroup {
		e.Cgroup = cgroup(e.PID)
	}
	if f := l.fast.Load(); f != nil && !refused && !l.queue.odd.Load() {
		if torn, err, done := f.write(e); done {
			if err != nil {
				l.queue.cut(torn)
			}
			return err
		}
		l.queue.hung.Store(true)
	}
	b, err := l.queue.add(e)
	if b == nil {
		return err
	}
	return l.queue.wait(b, until, l.cfg.Required && !refused)
}

// Close writes the sums of refusals that are still open, and closes the file. It
// waits a second at most.
func (l *Log) Close() error {
	l.refusals.close()
	err := l.queue.flush(time.Second)
	if l.syslog != nil {
		err = errors.Join(err, l.syslog.Close())
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}
