package harden

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Each version of Landlock knows more rights; see landlock(7).
const (
	writeRights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	writeRights2 = writeRights | unix.LANDLOCK_ACCESS_FS_REFER
	writeRights3 = writeRights2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	writeRights5 = writeRights3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// fileRights are those of writeRights5 that a rule for a file can have.
	fileRights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// LandlockVersion returns which version of Landlock this kernel offers to this process; 0: none.
func LandlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0,
		unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// denyWriting keeps the calling thread, and what it starts, from changing any file or directory
// but /dev/null and what lies at or below writable. Of these, what does not exist is left out.
// With it no process outside can be signalled (from version 6 on), traced or looked into. On a
// kernel without Landlock nothing happens.
func denyWriting(writable []string) error {
	version := LandlockVersion()
	if version == 0 {
		return nil
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: writeRights}
	switch {
	case version >= 5:
		attr.Handled_access_fs = writeRights5
	case version >= 3:
		attr.Handled_access_fs = writeRights3
	case version == 2:
		attr.Handled_access_fs = writeRights2
	}
	size := unsafe.Offsetof(attr.Handled_access_net) // what version 1 knows
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Offsetof(attr.Quiet_access_fs)
	}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
		uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("making rules for files: %w", errno)
	}
	defer unix.Close(int(rules))
	for _, path := range append([]string{"/dev/null"}, writable...) {
		if err := allowWriting(int(rules), path, attr.Handled_access_fs); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return fmt.Errorf("applying rules for files: %w", errno)
	}
	return nil
}

// allowWriting adds a rule for a path.
func allowWriting(rules int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making a rule for %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("making a rule for %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules),
		unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("making a rule for %s: %w", path, errno)
	}
	return nil
}
