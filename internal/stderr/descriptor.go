package stderr

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// how says how to write to a descriptor.
type how struct {
	// write writes as much as it can without waiting, and otherwise fails with EAGAIN. Where
	// that cannot be had, it waits.
	write func(fd int, b []byte) (int, error)
	// whole says that write never waits, and takes up to [atomic] bytes wholly or not at all.
	whole bool
}

// takeOver prepares fd and says how to write to it. See [New].
func takeOver(fd int) how {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return how{write: unix.Write}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		// The journal's. A descriptor of one's own cannot be had here. The runtime's lines are
		// many short ones, and with this none of them waits for long.
		limit := unix.NsecToTimeval((10 * time.Millisecond).Nanoseconds())
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
		return how{write: send, whole: true}
	case unix.S_IFIFO:
		if reopen(fd) {
			return how{write: unix.Write, whole: true}
		}
	case unix.S_IFCHR:
		reopen(fd)
	}
	return how{write: unix.Write}
}

// reopen replaces fd by another descriptor of the same pipe or terminal, which does not block. That
// fails where this user may not open it.
func reopen(fd int) bool {
	flags := unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags, 0)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	return unix.Dup3(own, fd, 0) == nil
}

// send is a write to a socket that does not block.
func send(fd int, b []byte) (int, error) {
	return unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// wait waits until fd takes bytes, or for a little.
func (how) wait(fd int) {
	// On an error the next write says what is wrong.
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
	time.Sleep(retry)
}
