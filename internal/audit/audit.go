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
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Entry is one line.
type Entry struct {
	Time      time.Time
	Op        string // "open", or "read" where a read is refused
	Mount     string // the mountpoint; empty where there is none
	UID, GID  uint32
	PID       uint32 // the thread that asked; 0: not visible from here
	RunAsUser string // of the rule
	DAGs      string // label of the rule
	ID        string // the connection's id
	Allowed   bool
	Rule      string // "file:line", or why there is none
	Source    string // the backend that answered
	Cached    bool
	Errno     string // empty: success
	Unique    uint64 // of the FUSE request
	Duration  time.Duration
}

// Log writes entries to a file or to standard error. It may be used concurrently.
type Log struct {
	path string // empty: w is not a file of ours

	mu  sync.Mutex
	w   io.Writer
	f   *os.File
	buf []byte
}

// Open opens the audit log: a path, which is made with mode 0600 and appended to,
// or "-" for standard error.
func Open(file string) (*Log, error) {
	if file == "-" {
		return &Log{w: os.Stderr}, nil
	}
	l := &Log{path: file}
	f, err := openFile(file)
	if err != nil {
		return nil, err
	}
	l.f, l.w = f, f
	return l, nil
}

// NewLog returns a log that writes to w.
func NewLog(w io.Writer) *Log { return &Log{w: w} }

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

// Write writes e with one write(2), and returns the error of that write.
func (l *Log) Write(e *Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = e.append(l.buf[:0])
	_, err := l.w.Write(l.buf)
	return err
}

// Close closes the file.
func (l *Log) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// append adds the line to b. It is written by hand because it is on the path of
// every open: encoding/json costs several times as much as the decision it records.
func (e *Entry) append(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = text(b, "op", e.Op)
	b = text(b, "mount", e.Mount)
	b = number(b, "uid", uint64(e.UID))
	b = number(b, "gid", uint64(e.GID))
	b = number(b, "pid", uint64(e.PID))
	b = text(b, "run_as_user", e.RunAsUser)
	b = text(b, "dags", e.DAGs)
	b = text(b, "id", e.ID)
	b = append(b, `,"allowed":`...)
	b = strconv.AppendBool(b, e.Allowed)
	b = text(b, "rule", e.Rule)
	b = text(b, "source", e.Source)
	b = append(b, `,"cached":`...)
	b = strconv.AppendBool(b, e.Cached)
	b = text(b, "errno", e.Errno)
	b = number(b, "unique", e.Unique)
	b = number(b, "duration_us", uint64(max(0, e.Duration.Microseconds())))
	return append(b, '}', '\n')
}

func number(b []byte, key string, n uint64) []byte {
	b = append(append(append(b, ',', '"'), key...), '"', ':')
	return strconv.AppendUint(b, n, 10)
}

func text(b []byte, key, s string) []byte {
	b = append(append(append(b, ',', '"'), key...), '"', ':', '"')
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				// A byte that is no UTF-8, as Python's surrogateescape shows it: two
				// ids never look the same.
				b = append(b, '\\', 'u', 'd', 'c', hex[c>>4], hex[c&15])
			case r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
				// Controls, line separators, and what turns the direction of text.
				b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			default:
				b = append(b, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}
