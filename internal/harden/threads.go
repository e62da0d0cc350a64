package harden

import (
	"errors"
	"syscall"
)

// errCgo is the failure of a binary in which C may have started threads that Go
// does not know: rights that one thread keeps are rights that all can get back.
var errCgo = errors.New("this binary was built with cgo, which cannot do that for every thread: build connfs with CGO_ENABLED=0")

// allThreads makes a system call on every thread.
func allThreads(trap, a1, a2 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, 0, 0, 0, 0)
	switch {
	case errno == 0, errno == syscall.ENOTSUP && underRaceDetector:
		return nil
	case errno == syscall.ENOTSUP:
		return errCgo
	}
	return errno
}
