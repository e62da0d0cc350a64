package fs

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
)

// errnos is the one table from the kind of a failure to the error number that a reader gets.
// It must never hold ENOSYS, after which the kernel would not ask again.
var errnos = map[conn.Kind]syscall.Errno{
	conn.Failed:      syscall.EIO,
	conn.Absent:      syscall.ENOENT,
	conn.Denied:      syscall.EACCES,
	conn.Unreachable: syscall.EIO,
	conn.Timeout:     syscall.ETIMEDOUT,
	conn.KeyRejected: syscall.EKEYREJECTED,
	conn.Invalid:     syscall.EBADMSG,
	conn.NotGranted:  syscall.EACCES,
	conn.Interrupted: syscall.EINTR,
	conn.PageRead:    syscall.EINVAL,
	conn.Changed:     syscall.ESTALE,
	conn.TooLarge:    syscall.EFBIG,
	conn.NoSlot:      syscall.EAGAIN,
	conn.NameTooLong: syscall.ENAMETOOLONG,
	conn.NoSuchName:  syscall.ENOENT,
}

// Errno returns the error number for err: 0 for nil, and EIO for an error of no known kind.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := errnos[conn.KindOf(err)]; ok {
		return e
	}
	return syscall.EIO
}

// ErrnoName returns the symbolic name of the error number for err, such as
// "EACCES", and "" for nil.
func ErrnoName(err error) string {
	if err == nil {
		return ""
	}
	return unix.ErrnoName(Errno(err))
}
