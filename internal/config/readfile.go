package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxFile is the size beyond which a file cannot be meant as configuration.
const maxFile = 4 << 20

// Permission bits.
const (
	othersRead   = 0o004
	othersWrite  = 0o002
	groupWrites  = 0o020
	writableWide = othersWrite | groupWrites
)

// readFile returns the text of a regular file and what fstat says about it.
// flags are added to those of open(2). Opening a FIFO does not block.
func readFile(path string, flags int) (string, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return "", nil, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", nil, bare(err)
	}
	if !info.Mode().IsRegular() {
		return "", nil, errors.New("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", nil, bare(err)
	}
	if len(text) > maxFile {
		return "", nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return string(text), info, nil
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
