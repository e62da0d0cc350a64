// Package regularfile reads files that may be anything: a path that a configuration names can
// lead to a FIFO, whose opening waits for a writer, to a device without an end, or to a file that
// somebody put there to have it obeyed.
package regularfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/connfs/connfs/internal/trust"
)

// ErrNotRegular is the error of a directory, a FIFO, a device or a socket.
var ErrNotRegular = errors.New("not a regular file")

// TooLargeError is the error of a file that is larger than its reader allows.
type TooLargeError struct {
	Limit int // in bytes
}

// Error implements error.
func (e *TooLargeError) Error() string { return fmt.Sprintf("larger than %d bytes", e.Limit) }

// Open opens a regular file for reading, and returns what fstat says about it. It never waits.
// flags are added to those of open(2). The error is ErrNotRegular, a *[trust.Error] where somebody
// else than the owners could change the file, or the system's.
func Open(path string, flags int, owners trust.Owners) (*os.File, fs.FileInfo, error) {
	file, err := owners.Open(path, flags)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, nil, err
	}
	return file, info, nil
}

// ReadAll reads the rest of a file, of limit bytes at most. The error is a *TooLargeError or
// the system's; what was read until then is wiped.
func ReadAll(file *os.File, limit int) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err == nil && len(content) > limit {
		err = &TooLargeError{limit}
	}
	if err != nil {
		clear(content)
		return nil, err
	}
	return content, nil
}

// Read returns the content of a regular file of limit bytes at most, and what fstat says about
// it. flags, owners and error are those of [Open] and [ReadAll].
func Read(path string, flags, limit int, owners trust.Owners) ([]byte, fs.FileInfo, error) {
	file, info, err := Open(path, flags, owners)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	content, err := ReadAll(file, limit)
	if err != nil {
		return nil, nil, err
	}
	return content, info, nil
}
