package resolve

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/connfs/connfs/conn"
)

// maxEnvFile is the largest environment file that is read, in bytes.
const maxEnvFile = 16 << 20

// racyAge is how old a file's last change must be for its time to prove that a
// later change would show: below it, two changes can carry the same time.
const racyAge = 2 * time.Second

// envFile is a file of variables, parsed again when it changes.
type envFile struct {
	path string

	mu        sync.Mutex
	stamp     fileStamp // of what variables were read from; zero: read again
	variables map[string]string
	err       error // parsing's
}

// fileStamp tells one state of a file from another.
type fileStamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func stampOf(info fs.FileInfo) fileStamp {
	s := fileStamp{size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.mtime, s.ctime = uint64(st.Dev), st.Ino, st.Mtim, st.Ctim
	}
	return s
}

// read returns the AIRFLOW_CONN_* variables of the file as it is now.
func (f *envFile) read() (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	info, err := os.Stat(f.path)
	if err != nil {
		return nil, f.failure(err)
	}
	if f.stamp != (fileStamp{}) && stampOf(info) == f.stamp {
		return f.variables, f.err
	}
	f.stamp = fileStamp{}
	if !info.Mode().IsRegular() {
		return nil, conn.Errorf(conn.Unreachable, "environment", "%s is not a regular file", f.path)
	}
	text, stamp, err := f.load()
	if err != nil {
		return nil, err
	}
	f.variables, f.err = parseEnvFile(f.path, text)
	changed := time.Unix(stamp.ctime.Unix())
	if time.Since(changed) > racyAge {
		f.stamp = stamp
	}
	return f.variables, f.err
}

// load reads the file. It is opened without blocking and looked at again, because
// a FIFO may have taken its place.
func (f *envFile) load() ([]byte, fileStamp, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileStamp{}, f.failure(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fileStamp{}, f.failure(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fileStamp{}, conn.Errorf(conn.Unreachable, "environment", "%s is not a regular file", f.path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxEnvFile+1))
	if err != nil {
		return nil, fileStamp{}, f.failure(err)
	}
	if len(text) > maxEnvFile {
		return nil, fileStamp{}, conn.Errorf(conn.Invalid, "environment", "%s is larger than 16 MiB", f.path)
	}
	return text, stampOf(info), nil
}

func (f *envFile) failure(err error) error {
	kind := conn.Unreachable
	if errors.Is(err, fs.ErrPermission) {
		kind = conn.Denied
	}
	return fileError(kind, "environment", f.path, err)
}

// fileError says what the system said about a path.
func fileError(kind conn.Kind, source, path string, err error) *conn.Error {
	e := conn.Errorf(kind, source, "%s: %s", path, fileReason(err))
	e.Err = err
	return e
}

// fileReason is the system's own words for a failure, without the path.
func fileReason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "cannot be read"
}

// parseEnvFile returns the AIRFLOW_CONN_* variables of a file of NAME=value lines.
//
// Lines end with a line feed; a carriage return before it, and blanks (spaces and
// tabs) around the line and around the value, do not count. An empty line and one
// that begins with # are skipped; "export " may stand before the name. The name
// runs to the first = and holds no blank. If the value begins with ' or ", it must
// end with the same mark; that pair is taken off and all between is the value:
// there are no escapes, no expansion, no comments behind a value, no continued
// lines. Of lines with one name the last counts. Other variables are skipped.
//
// A line of no such form makes the whole file invalid: nobody can tell whose
// connection it was meant to be. The error names the line and shows none of it.
func parseEnvFile(path string, text []byte) (map[string]string, error) {
	variables := make(map[string]string)
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	number := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		number++
		line = strings.Trim(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "export"); ok && rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
			line = strings.TrimLeft(rest, " \t")
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, conn.Errorf(conn.Invalid, "environment", "%s:%d: not a NAME=value line", path, number)
		}
		value, ok = unquote(strings.TrimLeft(value, " \t"))
		if !ok {
			return nil, conn.Errorf(conn.Invalid, "environment", "%s:%d: the value begins with a quotation mark and does not end with it", path, number)
		}
		if strings.HasPrefix(name, connPrefix) {
			variables[name] = value
		}
	}
	return variables, nil
}

func unquote(value string) (string, bool) {
	if value == "" || value[0] != '\'' && value[0] != '"' {
		return value, true
	}
	if last := len(value) - 1; last > 0 && value[last] == value[0] {
		return value[1:last], true
	}
	return "", false
}
