package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/fs"
	"github.com/connfs/connfs/internal/process"
)

// mount is one mounted tree.
type mount struct {
	path   string  // as the configuration names it
	real   string  // where it was mounted, with no links in the path
	id     mountID // zero while it is not known to be mounted
	dir    int     // descriptor of the directory that it was mounted in
	server *fuse.Server
	// fuse is another descriptor of the connection to the kernel, which tells whether the file
	// system is still in use; -1: an ordinary user's, which has none.
	fuse int
	// visible says whether the init process of this machine or container sees the mount.
	visible visibility
}

// mountTree mounts a tree at target, which prepareMountpoint has prepared, and serves it. others
// says that other users than the caller may reach it.
func mountTree(t *target, tree fuse.RawFileSystem, others bool) (*mount, error) {
	m := &mount{path: t.path, real: t.real, dir: t.dir, fuse: -1}
	var o fuse.MountOptions
	fs.Options(&o)
	o.Logger = slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn)
	point, top := t.real, -1
	if os.Geteuid() == 0 {
		fd, mounted, err := mountAsRoot(t, others)
		if err != nil {
			return nil, err
		}
		defer unix.Close(mounted)
		p, err := placeOf(mounted)
		if err == nil {
			m.fuse, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		}
		m.id = p.mount
		if err != nil {
			return m, mountError(t.path, "", "mounting failed: %v", err)
		}
		// This is how go-fuse takes an open connection.
		point, top = fmt.Sprintf("/dev/fd/%d", fd), mounted
	} else {
		if err := CheckFusermount(others); err != nil {
			return nil, atMountpoint(t.path, err)
		}
		o.AllowOther = others
		o.Options = []string{"ro", "nosuid", "nodev", "noexec"}
	}
	var server *fuse.Server
	var err error
	// For an ordinary user, go-fuse runs fusermount3.
	process.Hold(func() { server, err = fuse.NewServer(tree, point, &o) })
	if err != nil {
		return m, mountError(t.path, "", "mounting failed: %s", strings.TrimSpace(err.Error()))
	}
	go server.Serve()
	m.server = server
	if top < 0 {
		top, err = openMount(t.dir, filepath.Base(t.real))
		if err != nil {
			return m, mountError(t.path, "", "mounted, but it cannot be found: %v", err)
		}
		defer unix.Close(top)
	}
	return m, m.settle(t, top)
}

// openMount opens the root of the mount that is at name in dir, which asks no file system.
func openMount(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// settle makes sure that top is the root of the new mount, and that it serves.
func (m *mount) settle(t *target, top int) error {
	p, err := placeOf(top)
	if err != nil {
		return mountError(m.path, "", "mounted, but it cannot be found: %v", err)
	}
	table, err := readTable(ownTable)
	if err != nil {
		return err
	}
	e, ok := p.mount.in(table)
	switch {
	case !ok:
		return mountError(m.path, "", "somebody unmounted it at once")
	case e.fsType != fsType || e.parent != t.under.id:
		return mountError(m.path, "start only one connfs for each mountpoint",
			"somebody mounted something else there at the same moment")
	}
	m.id = p.mount
	// When this returns, the daemon has answered the kernel for the first time.
	var st unix.Statfs_t
	if err := unix.Fstatfs(top, &st); err != nil {
		return mountError(m.path, "", "mounted, but it does not answer: %v", err)
	}
	m.visible = visibleToInit(table, m.id.device)
	return nil
}

// mountAsRoot opens /dev/fuse and mounts it on target. It returns the descriptor of the
// connection, and one of the root of the mount. No child inherits them.
func mountAsRoot(t *target, others bool) (fd, mounted int, err error) {
	if fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return 0, 0, atMountpoint(t.path, deviceError(err))
	}
	// Made detached and then moved, the mount is known by its descriptor before anybody else can
	// reach it, whatever happens to its path.
	if mounted, err = newMount(fd, others); err == nil {
		err = os.NewSyscallError("move_mount", unix.MoveMount(mounted, "", t.fd, "",
			unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
		if err != nil {
			unix.Close(mounted)
		}
	}
	if err != nil {
		unix.Close(fd)
		hint := ""
		if errors.Is(err, syscall.EPERM) {
			hint = "in a container, mounting needs CAP_SYS_ADMIN"
		}
		return 0, 0, mountError(t.path, hint, "mounting failed: %v", err)
	}
	return fd, mounted, nil
}

// newMount makes a mount of the FUSE connection fd, which is nowhere yet.
func newMount(fd int, others bool) (int, error) {
	config, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(config)
	_, subtype, _ := strings.Cut(fsType, ".")
	for _, o := range [][2]string{
		{"source", "connfs"}, {"subtype", subtype}, {"fd", strconv.Itoa(fd)},
		{"rootmode", "40000"}, {"user_id", "0"}, {"group_id", "0"}, {"max_read", "131072"},
	} {
		if err := unix.FsconfigSetString(config, o[0], o[1]); err != nil {
			return 0, fmt.Errorf("fsconfig %s: %w", o[0], err)
		}
	}
	flags := []string{"ro"}
	if others {
		flags = append(flags, "allow_other")
	}
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(config, flag); err != nil {
			return 0, fmt.Errorf("fsconfig %s: %w", flag, err)
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return 0, os.NewSyscallError("fsconfig", err)
	}
	mounted, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	return mounted, os.NewSyscallError("fsmount", err)
}

// CheckDevice fails if this machine has no /dev/fuse. Its errors, and those of
// [CheckFusermount] and [CheckPath], are of type *[MountError].
func CheckDevice() error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return deviceError(err)
	}
	return unix.Close(fd)
}

// deviceError says what an error of opening /dev/fuse means.
func deviceError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENXIO),
		errors.Is(err, syscall.ENODEV):
		const hint = `load the module with "modprobe fuse"; in a container, pass --device /dev/fuse`
		return mountError("", hint, "there is no /dev/fuse on this machine")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		const hint = "look at its mode; in a container, pass --device /dev/fuse"
		return mountError("", hint, "/dev/fuse is there, and cannot be opened: %v", err)
	}
	return mountError("", "", "/dev/fuse cannot be opened: %v", err)
}

// CheckFusermount fails, with a reason in words, where fusermount3 could not mount for an
// ordinary user. others says that other users than the caller may reach the mount.
func CheckFusermount(others bool) error {
	if err := CheckDevice(); err != nil {
		return err
	}
	if _, err := fusermount(); err != nil {
		return mountError("", "install the package fuse3, or start connfs as root",
			"an ordinary user mounts through fusermount3, which is not installed")
	}
	if others && !allowsOther("/etc/fuse.conf") {
		return mountError("", "add the line user_allow_other to it, or start connfs as root",
			"grants are for other users, and /etc/fuse.conf does not let an ordinary user "+
				"mount for them")
	}
	return nil
}

// allowsOther reports whether fuse.conf has the line user_allow_other.
func allowsOther(conf string) bool {
	f, err := os.Open(conf)
	if err != nil {
		return false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.TrimSpace(s.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}

func fusermount() (string, error) {
	path, err := exec.LookPath("fusermount3")
	if err != nil {
		path, err = exec.LookPath("/bin/fusermount3")
	}
	return path, err
}
