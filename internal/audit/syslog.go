package audit

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// syslogSocket is where a syslog daemon of this machine listens.
const syslogSocket = "/dev/log"

// priority is the priority of every line: facility authpriv, severity informational.
const priority = 10<<3 | 6

// syslog writes each line as one datagram, as syslog(3) does.
type syslog struct {
	path string
	conn *net.UnixConn
	buf  []byte
}

func openSyslog(path string) (*syslog, error) {
	s := &syslog{path: path}
	if err := s.dial(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *syslog) dial() error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return fmt.Errorf("opening the audit socket %s: %w", s.path, err)
	}
	s.conn = c
	return nil
}

// Write sends lines, and returns how many of their bytes it could send.
func (s *syslog) Write(lines []byte) (int, error) {
	n := 0
	for line := range bytes.Lines(lines) {
		if err := s.send(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			return n, err
		}
		n += len(line)
	}
	return n, nil
}

// send sends one line. If the syslog daemon was restarted it connects and sends it again,
// once.
func (s *syslog) send(line []byte) error {
	s.buf = fmt.Appendf(s.buf[:0], "<%d>%s connfs[%d]: %s", priority, time.Now().Format(time.Stamp),
		os.Getpid(), line)
	_, err := s.conn.Write(s.buf)
	if err == nil {
		return nil
	}
	_ = s.conn.Close() // it is of no use any more
	if err := s.dial(); err != nil {
		return err
	}
	_, err = s.conn.Write(s.buf)
	return err
}

// Close closes the socket.
func (s *syslog) Close() error { return s.conn.Close() }
