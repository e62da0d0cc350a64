// Package audit writes one JSON line for each decision: who asked for what, whether
// it was allowed and by which rule, and how it ended. A line never holds a secret,
// and a hostile id or path cannot forge one.
//
// A line takes one of three ways to the file, the quickest that is safe:
//
//	fast     The reader's thread writes it, without a lock: only granted reads, only to a
//	         regular file, and only where the audit is not required.
//	direct   The reader's thread writes it, one reader at a time.
//	queued   Another goroutine writes it together with others, and the reader waits.
//
// Refusals that repeat themselves are summed before that; see refusals.go. The states of the
// log, and what leads from one to another:
//
//	+------+  a granted read    +------+  a line, and write(2)      +--------+
//	| fast | <----------------- | idle |  cannot block              | direct |
//	|      |                    |      | -------------------------> |        |
//	|      | -----------------> |      | <------------------------- |        |
//	+------+      written       +------+          written           +--------+
//	   |                         |    ^                                 |
//	   | a write takes more      |    | all lines                       | it would block
//	   | than 100 ms             |    | are written                     | after all
//	   v                         v    |                                 |
//	+------+   the next line    +--------+                              |
//	| hung | -----------------> | queued | <----------------------------+
//	+------+                    +--------+
//	                             |    ^
//	         a reader has waited |    | a write ended
//	         for 100 ms          v    |
//	                            +--------+
//	                            | stuck  |  later readers do not wait
//	                            +--------+
//	                             |
//	                             | 1 MiB of lines waits: the next ones are dropped
//	                             v
//	                            +--------+
//	                            |  lost  |  the next write begins with a line that says
//	                            +--------+  how many lines are missing; then idle again
//
// Where write(2) can block, a line leads from idle straight to queued. A write that fails,
// in any state, leads to lost. Where the audit is required no line is fast, and in stuck
// each reader still waits until its own deadline. [Log.Reopen] may come at any time: a write
// that is under way ends in the old file, which is closed after it.
package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/connfs/connfs/internal/trust"
)

// Config says where the lines go.
type Config struct {
	File     string // a path, "-" for standard error, "syslog" for the local syslog
	Required bool   // Write fails with what is not written in time
	Cgroup   bool   // lines name the caller's control group, which costs some microseconds each
	Off      bool   // nothing is written
	Stderr   Stderr // who writes to standard error; nil: the log itself, to os.Stderr
}

// Stderr is standard error where others write to it too. Each takes its turn, so that no line
// tears another, and a write that waits holds up nobody else than who waits for it.
type Stderr interface {
	// WriteWait writes lines, and returns when they are written.
	WriteWait(lines []byte) (int, error)
	// TryWrite writes lines if that is possible at once, and otherwise reports false for done.
	TryWrite(lines []byte) (n int, err error, done bool)
}

// Log writes entries to a file, to standard error or to syslog. It may be used
// concurrently.
type Log struct {
	cfg      Config
	refusals refusals
	queue    queue
	fast     atomic.Pointer[fast] // nil: every line goes through the queue
	file     *os.File             // nil: the lines go to standard error or to syslog
	syslog   io.Closer            // nil: they do not go to syslog
}

// Open opens the audit log. A file is made with mode 0600 and appended to. It, and every directory
// above it, must belong to root or to the user of this process, and nobody else may write to it:
// who could put another file in its place would have lines written there with these rights.
func Open(cfg Config) (*Log, error) {
	switch cfg.File {
	case "-":
		if cfg.Stderr != nil {
			l := NewLog(writeWait{cfg.Stderr}, cfg)
			l.queue.use(l.queue.w, tryWrite{cfg.Stderr}, endsTorn(os.Stderr))
			return l, nil
		}
		l := NewLog(os.Stderr, cfg)
		l.queue.use(os.Stderr, newDirect(os.Stderr, false), endsTorn(os.Stderr))
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
	l.use(f)
	return l, nil
}

// NewLog returns a log that writes to w, one line or several in each call.
func NewLog(w io.Writer, cfg Config) *Log {
	l := &Log{cfg: cfg}
	l.queue.w = w
	// The queue itself counts the lines that it cannot take.
	l.refusals.write = func(e *Entry) { _, _ = l.queue.add(e) }
	return l
}

func openFile(path string) (*os.File, error) {
	f, err := trust.Own().Loose().Create(path, os.O_WRONLY|os.O_APPEND, 0o600)
	var untrusted *trust.Error
	if errors.As(err, &untrusted) {
		return nil, fmt.Errorf("opening the audit file %w (%s)", untrusted, untrusted.Hint)
	}
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

// use writes to f from now on. l.queue.mu is held, or l is new.
func (l *Log) use(f *os.File) {
	l.file = f
	l.queue.use(f, newDirect(f, !l.cfg.Required), endsTorn(f))
	l.fast.Store(newFast(f, l.cfg.Required))
}

// endsTorn reports whether f is a file that ends with a part of a line: a full disk, or the end
// of the machine, can tear one.
func endsTorn(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return false
	}
	// It is open for writing only.
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return true // not known: an empty line does no harm
	}
	defer r.Close()
	var last [1]byte
	n, _ := r.ReadAt(last[:], st.Size()-1)
	return n == 0 || last[0] != '\n'
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
	l.use(f)
	return nil
}

// patience is how long a reader waits for a slow file or socket where the audit is not
// required. While it stays stuck, readers who come later do not wait at all.
const patience = 100 * time.Millisecond

// Write writes the line of e, and returns when it is written: the line is there before the
// read that it records. Where the audit is required, a line that is not written by the
// deadline is an error. Elsewhere a file or socket that is stuck delays nobody, and lines
// that it cannot take are counted in a line of their own. Refusals that repeat themselves,
// or are too many, are summed and written later. Write fills in what only /proc knows.
func (l *Log) Write(e *Entry, until time.Time) error {
	if l.cfg.Off {
		return nil
	}
	refused := e.Errno != ""
	if refused && !l.refusals.admit(e) {
		return nil
	}
	// A readlink costs as much as the whole line, so opens of cached values go without it.
	if refused || !e.Cached {
		e.Exe = exe(e.PID)
	}
	if l.cfg.Cgroup {
		e.Cgroup = cgroup(e.PID)
	}
	if f := l.fast.Load(); f != nil && !refused && !l.queue.reportFirst.Load() {
		if torn, err, written := f.write(e); written {
			if err != nil {
				l.queue.noteLost(torn)
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

// Close writes the sums of the refusals that are still counted, and closes the file. It
// waits for a second at most.
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
