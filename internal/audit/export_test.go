package audit

import (
	"io"
	"os"
)

// NewFileLog returns a log that writes to f as to standard error.
func NewFileLog(f *os.File, cfg Config) *Log {
	l := NewLog(f, cfg)
	l.queue.direct = newDirect(f, false)
	return l
}

// OpenSyslog connects to the syslog socket at path.
func OpenSyslog(path string) (io.WriteCloser, error) { return openSyslog(path) }
