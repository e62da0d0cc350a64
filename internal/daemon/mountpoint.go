package daemon

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
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

// target is a directory that is ready to be mounted on. Its descriptors stay what they are when a
// directory above it gets another name, or something is mounted over one.
type target struct {
	path  string  // as the configuration names it
	real  string  // the same with no links in it
	dir   int     // of the directory that it is in
	fd    int     // of itself
	under mountID // on which it lies
}

// close closes the descriptor that mounting needed. dir stays open until the mount is gone.
func (t *target) close() { unix.Close(t.fd) }

// prepareMountpoint makes path ready to be mounted on. It unmounts what a connfs that crashed
// left there, makes the directory if it is missing, and refuses what is not an empty directory
// or not safe to mount on. As root it also makes the directory underneath unreadable, so that an
// unmounted /conn never looks like one without connections.
func prepareMountpoint(path string, root bool) (*target, error) {
	real, err := resolveMountpoint(path, root)
	if err == nil {
		err = clearStale(real)
	}
	if err == nil {
		err = makeDirectory(real, root)
	}
	if err == nil {
		err = checkEmpty(real)
	}
	if err != nil {
		return nil, atMountpoint(path, err)
	}
	if root {
		if err := errors.Join(os.Lchown(real, 0, 0), os.Chmod(real, 0)); err != nil {
			return nil, mountError(path, "", "the directory under the mount cannot be made root's "+
				"and unreadable: %s", cause(err))
		}
	}
	t := &target{path: path, real: real}
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if t.dir, err = unix.Open(filepath.Dir(real), flags, 0); err != nil {
		return nil, mountError(path, "", "the directory that holds it cannot be opened: %v", err)
	}
	t.fd, err = unix.Openat(t.dir, filepath.Base(real), flags|unix.O_NOFOLLOW, 0)
	if err == nil {
		var p place
		if p, err = placeOf(t.fd); err == nil {
			t.under = p.mount
			return t, nil
		}
		unix.Close(t.fd)
	}
	unix.Close(t.dir)
	return nil, mountError(path, "", "the mountpoint cannot be opened: %v", err)
}

// resolveMountpoint checks the directories above path, and returns it with no links in it.
func resolveMountpoint(path string, root bool) (string, error) {
	parent := filepath.Dir(path)
	if err := ask(parent); errors.Is(err, errNoAnswer) {
		return "", mountError(path, "a mount on the way there may have lost its server or daemon",
			"the directory that should hold the mountpoint does not answer: %v", err)
	}
	if err := CheckPath(path, root); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return "", mountError(path, "", "its path cannot be followed: %s", cause(err))
	}
	return filepath.Join(real, filepath.Base(path)), nil
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
	if p, err := lookAt(path); err != nil || p.top {
		return nil // missing, or a mount, which nobody can rename, and which may not answer
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

// Occupant is what a mountpoint has on it before connfs mounts there.
type Occupant int

const (
	Free   Occupant = iota // nothing of connfs's
	Served                 // the mount of a connfs that answers
	Stale                  // the mount that a connfs left which is gone
)

// Occupied returns what is mounted on path. It fails, with a *[MountError], where that does not
// answer in time.
func Occupied(path string, root bool) (Occupant, error) {
	real, err := resolveMountpoint(path, root)
	if err != nil {
		return Free, err
	}
	found, _, err := occupant(real)
	return found, atMountpoint(path, err)
}

// occupant returns what is mounted on path, which has no links in it.
func occupant(path string) (Occupant, mountEntry, error) {
	p, err := lookAt(path)
	if err != nil || !p.top {
		return Free, mountEntry{}, nil
	}
	table, err := readTable(ownTable)
	if err != nil {
		return Free, mountEntry{}, err
	}
	e, ok := p.mount.in(table)
	if !ok {
		return Free, e, nil // it was unmounted just now
	}
	err = ask(path)
	switch {
	case errors.Is(err, errNoAnswer) && e.fsType == fsType:
		return Free, e, mountError("", "let it go on (kill -CONT) or end it; umount -l takes its "+
			"mount away", "another connfs is mounted there and gives %v: it may be stopped", err)
	case errors.Is(err, errNoAnswer):
		return Free, e, mountError("", "umount -l takes it away",
			"what is mounted there (%s) gives %v", printable(e.fsType), err)
	case e.fsType != fsType:
		return Free, e, nil
	case err == nil:
		return Served, e, nil
	case errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.ECONNABORTED):
		// A mount without a daemon answers ENOTCONN, and ECONNABORTED once.
		return Stale, e, nil
	}
	return Free, e, mountError("", "",
		"a connfs is mounted there, and does not tell whether it serves: %s", cause(err))
}

// clearStale unmounts what connfs daemons that are gone left mounted on path. It fails if one
// still serves there.
func clearStale(path string) error {
	for {
		found, e, err := occupant(path)
		switch {
		case err != nil:
			return err
		case found == Served:
			return mountError("", "stop it first, or choose another mountpoint",
				"another connfs serves this mountpoint")
		case found == Free:
			return nil
		}
		table, err := readTable(ownTable)
		if err == nil {
			err = unmount(table, e, unix.AT_FDCWD, path, func() bool { return false })
		}
		if err != nil && !errors.Is(err, errInUse) {
			return mountError("", "", "the mount that an earlier connfs left cannot be removed: %s",
				cause(err))
		}
	}
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
