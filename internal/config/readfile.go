package config

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// maxFile is the largest configuration file that is read, in bytes.
const maxFile = 4 << 20

// othersRead is the permission bit of others to read.
const othersRead = 0o004

// readFile returns the text of a regular file that nobody but the owners can change, and what
// fstat says about it. flags are added to those of open(2).
func readFile(path string, flags int, owners trust.Owners) (string, fs.FileInfo, error) {
	text, info, err := regularfile.Read(path, flags, maxFile, owners)
	return string(text), info, bare(err)
}

// refusal reports that a file cannot be read, or that somebody else could change it; then why
// says why that matters, as in "it says what connfs does".
func refusal(path, why string, err error) *Error {
	e := &Error{File: path, Message: err.Error()}
	var untrusted *trust.Error
	if errors.As(err, &untrusted) {
		e.Message, e.Hint = untrusted.Problem()+", and "+why, untrusted.Hint
	}
	return e
}

// bare returns the system's reason without the path, which stands before it.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		if path.Err == syscall.ELOOP {
			return errors.New("a symbolic link, or too many of them")
		}
		return path.Err
	}
	return err
}

// owner returns the uid that owns a file.
func owner(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return nobody
}
