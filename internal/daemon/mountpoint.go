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

// MountError is why a mountpoint cannot be used, in one sentence, and what to do.
type MountError struct {
	Path, Reason, Hint string
}

// Error implements error.
func (e *MountError) Error() string {
	s := e.Path + ": " + e.Reason
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// prepareMountpoint makes path ready to be mounted on: it clears away the mount that
// a crashed connfs left, makes the directory if it is missing, and refuses what is no
// empty directory or not safe to mount on. As root it also makes the directory
// underneath unreadable, so that an unmounted /conn never looks like one without
// connections.
func prepareMountpoint(path string, root bool) error {
	if err := CheckPath(path, root); err != nil {
		return err
	}
	if err := clearStale(path); err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		mode := iofs.FileMode(0o700)
		if root {
			mode = 0
		}
		if err := os.Mkdir(path, mode); err != nil {
			return &MountError{path, "the mountpoint is missing and cannot be made: " + cause(err), ""}
		}
		st, err = os.Lstat(path)
	}
	switch {
	case err != nil:
		return &MountError{path, "the mountpoint cannot be looked at: " + cause(err), ""}
	case st.Mode()&iofs.ModeSymlink != 0:
		return &MountError{path, "the mountpoint is a symbolic link", "name the directory itself: a link can be pointed elsewhere"}
	case !st.IsDir():
		return &MountError{path, "the mountpoint is a file, not a directory", ""}
	}
	if err := checkEmpty(path); err != nil {
		return err
	}
	if !root {
		return nil
	}
	if err := errors.Join(os.Lchown(path, 0, 0), os.Chmod(path, 0)); err != nil {
		return &MountError{path, "the directory under the mount cannot be made root's and unreadable: " + cause(err), ""}
	}
	return nil
}

func checkEmpty(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return &MountError{path, "the mountpoint cannot be read: " + cause(err), ""}
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); err != io.EOF {
		return &MountError{path, "the mountpoint is not empty", "what lies in it would be hidden: mount on an empty directory"}
	}
	return nil
}

// CheckPath refuses, as root, a mountpoint whose path somebody else could redirect:
// every directory on the way must be root's, and writable by others only with the
// sticky bit, which keeps them from renaming what is root's.
func CheckPath(path string, root bool) error {
	parent := filepath.Dir(path)
	real, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return &MountError{path, "the directory that should hold the mountpoint is not there: " + cause(err), ""}
	}
	if !root {
		return nil
	}
	for _, start := range []string{parent, real} {
		for dir := start; ; dir = filepath.Dir(dir) {
			st, err := os.Stat(dir)
			if err != nil {
				return &MountError{path, "its path cannot be checked: " + cause(err), ""}
			}
			owner := st.Sys().(*syscall.Stat_t).Uid
			shared := st.Mode().Perm()&0o022 != 0 && st.Mode()&iofs.ModeSticky == 0
			if owner != 0 || shared {
				who := fmt.Sprintf("uid %d owns", owner)
				if owner == 0 {
					who = "others than root can write to"
				}
				return &MountError{path, fmt.Sprintf("%s %s, and could put something else in its place", who, dir), "mount below directories that only root can change"}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	if st, err := os.Lstat(path); err == nil && st.Sys().(*syscall.Stat_t).Uid != 0 {
		if p, err := os.Stat(parent); err == nil && p.Mode()&iofs.ModeSticky != 0 {
			return &MountError{path, fmt.Sprintf("uid %d owns it in a directory that all can write to, and could rename it", st.Sys().(*syscall.Stat_t).Uid), "mount below directories that only root can change"}
		}
	}
	return nil
}

// clearStale unmounts what a daemon that is gone left mounted on path, and refuses
// where one is still there.
func clearStale(path string) error {
	mounted, err := mountedHere(path)
	if err != nil || !mounted {
		return err
	}
	var st unix.Statfs_t
	// A connection without a daemon answers ENOTCONN, or ECONNABORTED once.
	if err := unix.Statfs(path, &st); err == nil {
		return &MountError{path, "another connfs serves this mountpoint", "stop it first, or choose another mountpoint"}
	} else if !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		return &MountError{path, "a connfs is mounted there and cannot be asked whether it lives: " + cause(err), ""}
	}
	if err := unmount(path, true); err != nil {
		return &MountError{path, "the mount that an earlier connfs left cannot be removed: " + cause(err), ""}
	}
	return clearStale(path) // there may be one more underneath
}

// mountedHere reports whether a mount of connfs is at path.
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
				here = fields[i+1] == fsType // the last one at a path is on top
			}
		}
	}
	return here, nil
}

// unescape undoes the mount table's \040 for a blank, and the like.
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

// cause returns an error without the operation and path that the sentence around it
// names already.
func cause(err error) string {
	var pe *iofs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
