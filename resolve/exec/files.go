package exec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/trust"
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
		resolved, _, err := trust.Own().Resolve(path)
		switch {
		case err == nil && i == 0:
			program = resolved
		case err == nil, i > 0 && !names(path, err):
		default:
			return "", fileError(path, err)
		}
	}
	return program, nil
}

// names reports whether an argument that cannot be trusted is the path of a file: it need not be
// a path at all.
func names(argument string, err error) bool {
	var untrusted *trust.Error
	info, statErr := os.Stat(argument)
	return errors.As(err, &untrusted) && statErr == nil && info.Mode().IsRegular()
}

func fileError(path string, err error) error {
	kind := conn.Unreachable
	if errors.Is(err, fs.ErrPermission) {
		kind = conn.Denied
	}
	return backend.FileError(kind, source, path, err)
}
