package config

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/connfs/connfs/internal/regularfile"
)

// maxFile is the largest configuration file that is read, in bytes.
const maxFile = 4 << 20

// Permission bits.
const (
	othersRead   = 0o004
	othersWrite  = 0o002
	groupWrites  = 0o020
	writableWide = othersWrite | groupWrites
)

// readFile returns the text of a regular file and what fstat says about it.
// flags are added to those of open(2).
func readFile(path string, flags int) (string, fs.FileInfo, error) {
	text, info, err := regularfile.Read(path, flags, maxFile)
	return string(text), info, bare(err)
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
