package harden

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Some capabilities of capabilities(7).
const (
	capDACOverride   = 1
	capDACReadSearch = 2
	capSetgid        = 6
	capSetuid        = 7
	capSetpcap       = 8
	capIPCLock       = 14
)

// capabilitySets are the capabilities of a thread, one bit each.
type capabilitySets struct {
	effective, permitted, inheritable uint64
}

// capabilities returns those of the calling thread.
func capabilities() (capabilitySets, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return capabilitySets{}, fmt.Errorf("reading capabilities: %w", err)
	}
	join := func(low, high uint32) uint64 { return uint64(high)<<32 | uint64(low) }
	return capabilitySets{
		effective:   join(data[0].Effective, data[1].Effective),
		permitted:   join(data[0].Permitted, data[1].Permitted),
		inheritable: join(data[0].Inheritable, data[1].Inheritable),
	}, nil
}

// set gives the calling thread these capabilities. An ambient capability that is not inheritable
// any more is lost, too.
func (c capabilitySets) set() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective: uint32(c.effective >> shift), Permitted: uint32(c.permitted >> shift),
			Inheritable: uint32(c.inheritable >> shift),
		}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("setting capabilities: %w", err)
	}
	return nil
}

// forReading returns those of the permitted capabilities with which a process can read every file,
// become another user, and give up the rest.
func (c capabilitySets) forReading() uint64 {
	reads := uint64(1 << capDACReadSearch)
	if c.permitted&reads == 0 {
		reads = 1 << capDACOverride // which many containers have instead
	}
	return c.permitted & (reads | 1<<capSetgid | 1<<capSetuid | 1<<capSetpcap)
}

// hasCapability reports whether the calling thread has the capability of this number.
func hasCapability(n uint) bool {
	caps, err := capabilities()
	return err == nil && caps.effective&(1<<n) != 0
}

// ErrCgo is the error of a binary with cgo: C may have started threads that Go does not know, and
// whatever capability one thread keeps, code of the others can use.
var ErrCgo = errors.New("a process with cgo cannot drop the capabilities of every thread")

// DropCapabilities drops every capability of every thread. A process that [Start] started cannot
// get them back. With cgo it fails with [ErrCgo] and changes nothing.
func DropCapabilities() error {
	dropBoundingSet()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(syscall.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return ErrCgo
	}
	return fmt.Errorf("dropping capabilities: %w", errno)
}

// dropBoundingSet empties the bounding set of every thread, where that is possible. It is not with
// cgo, where no_new_privs alone has to do.
func dropBoundingSet() {
	for c := uintptr(0); c < 64; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil || has == 0 {
			continue
		}
		if _, _, errno := syscall.AllThreadsSyscall(
			syscall.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0,
		); errno != 0 {
			return
		}
	}
}

// CheckRights fails unless the calling thread has no capability and can never gain one, as in a
// process that [Start] started.
func CheckRights() error {
	caps, err := capabilities()
	if err != nil {
		return err
	}
	if caps != (capabilitySets{}) {
		return errors.New("the process still has capabilities")
	}
	if no, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || no != 1 {
		return errors.New("the process can still gain rights: no_new_privs is not set")
	}
	return nil
}
