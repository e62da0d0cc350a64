package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// fsType is the file-system type under which mounts of connfs are listed.
const fsType = "fuse.connfs"

// MountError says why something cannot be mounted, and what to do about it.
type MountError struct {
	Path   string // of the mountpoint; may be empty
	Reason string
	Hint   string // may be empty
}

// Error implements error.
func (e *MountError) Error() string {
	s := e.Reason
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func mountError(path, hint, format string, args ...any) error {
	return &MountError{path, fmt.Sprintf(format, args...), hint}
}

// atMountpoint returns err, which is a *MountError, with the path of a mountpoint.
func atMountpoint(path string, err error) error {
	var e *MountError
	if !errors.As(err, &e) {
		return err
	}
	return &MountError{path, e.Reason, e.Hint}
}

// prepareMountpoint makes path ready to be mounted on. It unmounts what a connfs that crashed
// left there, makes the directory if it is missing, and refuses what is not an empty directory
// or not safe to mount on. As root it also makes the directory underneath unreadable, so that an
// unmounted /conn never looks like one without connections.
func prepareMountpoint(path string, root bool) error {
	if err := CheckPath(path, root); err != nil {
		return err
	}
	if err := clearStale(path); err != nil {
		return err
	}
	if err := makeDirectory(path, root); err != nil {
		return err
	}
	if err := checkEmpty(path); err != nil {
		return err
	}
	if !root {
		return nil
	}
	if err := errors.Join(os.Lchown(path, 0, 0), os.Chmod(path, 0)); err != nil {
		return mountError(path, "",
			"the directory under the mount cannot be made root's and unreadable: %s", cause(err))
	}
	return nil
}

// makeDirectory makes path if it is missing, and fails if it is not a directory.
func makeDirectory(path string, root bool) error {
	st, err := os.Lstat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		mode := iofs.FileMode(0o700)
		if root {
			mode = 0
		}
		if err := os.Mkdir(path, mode); err != nil {
			return mountError(path, "",
				"the mountpoint is missing and cannot be made: %s", cause(err))
		}
		st, err = os.Lstat(path)
	}
	switch {
	case err != nil:
		return mountError(path, "", "the mountpoint cannot be examined: %s", cause(err))
	case st.Mode()&iofs.ModeSymlink != 0:
		return mountError(path, "name the directory itself: a link can be pointed elsewhere",
			"the mountpoint is a symbolic link")
	case !st.IsDir():
		return mountError(path, "", "the mountpoint is a file, not a directory")
	}
	return nil
}

func checkEmpty(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return mountError(path, "", "the mountpoint cannot be read: %s", cause(err))
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); err != io.EOF {
		return mountError(path, "mount on an empty directory: what is in this one would be hidden",
			"the mountpoint is not empty")
	}
	return nil
}

// onlyRoot is the hint where somebody else could put something in the place of a path.
const onlyRoot = "mount below directories that only root can change"

// CheckPath refuses, as root, a path that somebody else could redirect: every directory above
// it must belong to root, and others may write to it only if it is sticky, which keeps them from
// renaming what is root's. As anybody else it only looks whether the directory above is there.
func CheckPath(path string, root bool) error {
	parent := filepath.Dir(path)
	real, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return mountError(path, "",
			"the directory that should hold the mountpoint is not there: %s", cause(err))
	}
	if !root {
		return nil
	}
	for _, start := range []string{parent, real} {
		if err := checkAncestors(path, start); err != nil {
			return err
		}
	}
	st, err := os.Lstat(path)
	if err != nil || owner(st) == 0 {
		return nil
	}
	if p, err := os.Stat(parent); err == nil && p.Mode()&iofs.ModeSticky != 0 {
		return mountError(path, onlyRoot,
			"uid %d owns it in a directory that all can write to, and could rename it", owner(st))
	}
	return nil
}

// checkAncestors is CheckPath for dir and all directories above it.
func checkAncestors(path, dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			return mountError(path, "", "its path cannot be checked: %s", cause(err))
		}
		who := ""
		if uid := owner(st); uid != 0 {
			who = fmt.Sprintf("uid %d owns", uid)
		} else if st.Mode().Perm()&0o022 != 0 && st.Mode()&iofs.ModeSticky == 0 {
			who = "others than root can write to"
		}
		if who != "" {
			return mountError(path, onlyRoot, "%s %s, and could put something else in its place",
				who, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func owner(st iofs.FileInfo) uint32 { return st.Sys().(*syscall.Stat_t).Uid }

// clearStale unmounts what a connfs that is gone left mounted on path. It fails if one still
// serves there.
func clearStale(path string) error {
	mounted, err := mountedHere(path)
	if err != nil || !mounted {
		return err
	}
	var st unix.Statfs_t
	err = unix.Statfs(path, &st)
	switch {
	case err == nil:
		return mountError(path, "stop it first, or choose another mountpoint",
			"another connfs serves this mountpoint")
	case !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED):
		// A mount without a daemon answers ENOTCONN, and ECONNABORTED once.
		return mountError(path, "",
			"a connfs is mounted there, and does not tell whether it serves: %s", cause(err))
	}
	if err := unmount(path, true); err != nil {
		return mountError(path, "",
			"the mount that an earlier connfs left cannot be removed: %s", cause(err))
	}
	return clearStale(path) // there may be one more underneath
}

// mountedHere reports whether a connfs is mounted on path.
func mountedHere(path string) (bool, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("reading the mount table: %w", err)
	}
	defer f.Close()
	here := false
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		for i, field := range fields {
			if field == "-" && i+1 < len(fields) && i > 4 && unescape(fields[4]) == path {
				here = fields[i+1] == fsType // the last one of a path is on top
			}
		}
	}
	return here, nil
}

// unescape replaces the mount table's \040 by a blank, and so on.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n := int(s[i+1]-'0')<<6 | int(s[i+2]-'0')<<3 | int(s[i+3]-'0'); n < 256 {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cause returns the text of an error without the operation and the path, which the sentence
// around it names.
func cause(err error) string {
	var pe *iofs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
