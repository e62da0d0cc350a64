package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/internal/process"
)

// errInUse is the outcome of an unmounting that left the file system in use.
var errInUse = errors.New("in use")

// close unmounts m, wherever it is now, and nothing else. Its error is a *[MountError] that says
// what is left. Where the file system is still in use it says so in the log.
func (m *mount) close(log *slog.Logger) error {
	defer m.release()
	table, err := readTable(ownTable)
	if err != nil {
		return mountError(m.path, "", "not unmounted: %v", err)
	}
	e, ok := m.id.in(table)
	if !ok { // what is at its path now is not ours
		if m.inUse() {
			log.Warn("somebody unmounted it already, while files were open: their readers get an "+
				"error", "mountpoint", m.path)
		}
		return nil
	}
	if e.point != m.real {
		log.Info("unmounting it where it is now", "mountpoint", m.path, "now", e.point)
	}
	err = unmount(table, e, m.dir, filepath.Base(m.real), m.inUse)
	switch {
	case errors.Is(err, errInUse):
		log.Warn("unmounted while files are still open, or while another mount namespace has a "+
			"copy of the mount: readers there get an error", "mountpoint", m.path)
	case err != nil:
		return atMountpoint(m.path, err)
	}
	for _, c := range copies(table, m.id) {
		log.Warn("somebody bound the mount elsewhere, and that stays, without a daemon",
			"bind", c.point, "hint", "umount "+c.point)
	}
	return nil
}

// release closes what m kept open.
func (m *mount) release() {
	for _, fd := range []int{m.fuse, m.dir} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	m.fuse, m.dir = -1, -1
}

// unmount unmounts the mount of e, which is at name in dir, and nothing else. It returns errInUse
// if the mount is gone and its file system is still in use. inUse says that, where unmounting
// cannot tell.
func unmount(
	table []mountEntry, e mountEntry, dir int, name string, inUse func() bool,
) error {
	if above := on(table, e); len(above) > 0 {
		return mountError("", "umount "+above[0].point+", and start connfs again or umount this",
			"not unmounted: somebody mounted a file system (%s) on it, at %s, which is not "+
				"connfs's to take away; the mount of connfs stays below it, without a daemon",
			printable(above[0].fsType), printable(above[0].point))
	}
	if os.Geteuid() != 0 {
		dir, name = unix.AT_FDCWD, e.point // fusermount3 goes by the path
	}
	fd, err := openMount(dir, name)
	if err != nil {
		return leftBehind(e, err)
	}
	p, err := placeOf(fd)
	if err == nil && (p.mount != mountID{e.id, e.device} || !p.top) {
		err = errors.New("something else is mounted over its path")
	}
	if err != nil {
		unix.Close(fd)
		return leftBehind(e, err)
	}
	if os.Geteuid() != 0 {
		unix.Close(fd)
		return unmountAsUser(e)
	}
	// By its descriptor it is this mount, whatever happens to its path. The kernel would take
	// along what somebody mounts on it at this moment.
	err = unix.Unmount("/proc/self/fd/"+strconv.Itoa(fd), unix.MNT_DETACH)
	unix.Close(fd)
	switch {
	case err != nil:
		return leftBehind(e, err)
	case inUse():
		return errInUse
	}
	return nil
}

func leftBehind(e mountEntry, err error) error {
	return mountError("", "umount "+e.point, "not unmounted, and left behind at %s: %v",
		printable(e.point), err)
}

// unmountAsUser is unmount for an ordinary user, for whom only fusermount3 can unmount. It goes by
// the path. Where files are open, only a lazy unmounting succeeds: the mount disappears at once,
// and ends with the last open file.
func unmountAsUser(e mountEntry) error {
	tool, err := fusermount()
	if err != nil {
		return leftBehind(e, err)
	}
	var failed error
	for _, args := range [][]string{{"-u", "-q", e.point}, {"-u", "-z", "-q", e.point}} {
		var output bytes.Buffer
		cmd := exec.Command(tool, args...)
		cmd.Env, cmd.Stderr = []string{}, &output
		if err = process.Run(cmd); err == nil && failed != nil {
			return errInUse
		} else if err == nil {
			return nil
		}
		failed = fmt.Errorf("fusermount3: %w %s", err, strings.TrimSpace(output.String()))
	}
	return leftBehind(e, failed)
}

// inUse reports whether the kernel still has the file system: it is mounted, files of it are open,
// or another mount namespace has a copy of the mount. It is false where that cannot be told.
func (m *mount) inUse() bool {
	if m.fuse < 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(m.fuse)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLERR == 0
}

// printable returns a name that somebody else chose, quoted where it could look like more than
// that.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
