package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/fs"
)

// mount is one mounted tree.
type mount struct {
	path   string
	server *fuse.Server
}

// mountTree mounts a tree at path, which prepareMountpoint has prepared, and serves it. others
// says that other users than the caller may reach it.
func mountTree(path string, tree fuse.RawFileSystem, others bool) (*mount, error) {
	var o fuse.MountOptions
	fs.Options(&o)
	o.Logger = slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn)
	target := path
	if os.Geteuid() == 0 {
		fd, err := mountAsRoot(path, others)
		if err != nil {
			return nil, err
		}
		// This is how go-fuse takes an open connection.
		target = fmt.Sprintf("/dev/fd/%d", fd)
	} else {
		if err := CheckFusermount(others); err != nil {
			return nil, atMountpoint(path, err)
		}
		o.AllowOther = others
		o.Options = []string{"ro", "nosuid", "nodev", "noexec"}
	}
	server, err := fuse.NewServer(tree, target, &o)
	if err != nil {
		_ = unmount(path, true) // most likely nothing was mounted
		return nil, mountError(path, "", "mounting failed: %s", strings.TrimSpace(err.Error()))
	}
	go server.Serve()
	return &mount{path, server}, nil
}

// mountAsRoot opens /dev/fuse and mounts it at path. No child inherits the descriptor.
func mountAsRoot(path string, others bool) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, atMountpoint(path, deviceError(err))
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=131072", fd)
	if others {
		options += ",allow_other"
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("connfs", path, fsType, flags, options); err != nil {
		unix.Close(fd)
		hint := ""
		if errors.Is(err, syscall.EPERM) {
			hint = "in a container, mounting needs CAP_SYS_ADMIN"
		}
		return 0, mountError(path, hint, "mounting failed: %v", err)
	}
	return fd, nil
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

// unmount unmounts path. Where readers still have files open, only a lazy one succeeds: the
// mount disappears at once, and ends with the last open file.
func unmount(path string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := 0
		if lazy {
			flags = unix.MNT_DETACH
		}
		return unix.Unmount(path, flags)
	}
	tool, err := fusermount()
	if err != nil {
		return err
	}
	args := []string{"-u", "-q", path}
	if lazy {
		args = []string{"-u", "-z", "-q", path}
	}
	var output bytes.Buffer
	cmd := exec.Command(tool, args...)
	cmd.Env, cmd.Stderr = []string{}, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("fusermount3: %w %s", err, strings.TrimSpace(output.String()))
	}
	return nil
}

// close unmounts. Where readers still have files open, it says so, and those stay until they
// are closed or the daemon ends.
func (m *mount) close(log *slog.Logger) {
	if err := unmount(m.path, false); err == nil {
		return
	}
	if err := unmount(m.path, true); err != nil {
		log.Error("not unmounted", "mountpoint", m.path, "error", err)
		return
	}
	log.Warn("unmounted while files are still open: their readers get an error",
		"mountpoint", m.path)
}
