package exec

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// checkFiles returns the path of the program, symbolic links followed. Nobody but
// root and the user that runs it may be able to change it, or a file that its arguments
// name, or to put another one in its place: whoever can would get what connfs may read.
func checkFiles(command []string) (string, error) {
	program := ""
	for i, path := range command {
		if !filepath.IsAbs(path) {
			continue
		}
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			if i > 0 {
				continue // an argument need not be a path
			}
			return "", fileError(path, err)
		}
		info, err := os.Stat(resolved)
		if err != nil {
			return "", fileError(path, err)
		}
		if i == 0 {
			program = resolved
		} else if !info.Mode().IsRegular() {
			continue
		}
		if err := checkOwner(resolved, info); err != nil {
			return "", err
		}
	}
	return program, nil
}

// checkOwner looks at a file and at every directory above it.
func checkOwner(path string, info fs.FileInfo) error {
	for at := path; ; {
		owner := info.Sys().(*syscall.Stat_t).Uid
		// Where a directory is sticky, others cannot replace what is not theirs.
		shared := info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0
		if shared || owner != 0 && int(owner) != os.Geteuid() {
			return &conn.Error{
				Kind: conn.Denied, Source: source, Reason: at + " can be changed by others",
				Hint: "only root and the user that runs the program may own it and the " +
					"directories above it, and write to them",
			}
		}
		parent := filepath.Dir(at)
		if parent == at {
			return nil
		}
		at = parent
		var err error
		if info, err = os.Stat(at); err != nil {
			return fileError(at, err)
		}
	}
}

func fileError(path string, err error) error {
	kind := conn.Unreachable
	if os.IsPermission(err) {
		kind = conn.Denied
	}
	return backend.FileError(kind, source, path, err)
}
