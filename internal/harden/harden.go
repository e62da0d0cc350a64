// Package harden protects processes that hold secrets: from core dumps, from tracing, from swap,
// and from rights that they do not need.
package harden

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process keeps this process out of core dumps, and debuggers of the same user away from it. Both
// roles call it first of all in main, because exec resets it.
func Process() error {
	// A process that was executed through /proc/self/exe is listed as "exe". Another name is
	// not worth an error. A thread names itself so, and a process has the name of its main thread.
	if name := []byte("connfs\x00"); unix.Gettid() == unix.Getpid() {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	}
	// The kernel ignores the limit if core_pattern is a pipe, so both are needed.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process not dumpable: %w", err)
	}
	return nil
}

// mclOnFault is MCL_ONFAULT of mlockall(2): pages are locked when they are first used, so that
// the address space which Go reserves costs nothing.
const mclOnFault = 4

// LockAll locks all memory of the process, now and later, and reports whether it did. If the
// limit on locked memory is finite it does nothing: a later allocation would fail by that limit,
// which the Go runtime does not survive. keepsCapabilities says that the process will keep its
// capabilities, of which one lifts the limit, or may raise it.
func LockAll(keepsCapabilities bool) bool {
	if keepsCapabilities {
		raiseLockLimit()
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) != nil {
		return false
	}
	if lim.Cur != unix.RLIM_INFINITY && !(keepsCapabilities && hasCapability(capIPCLock)) {
		return false
	}
	return unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|mclOnFault) == nil
}

// BecomeUser makes every thread of a process of root's run as uid, gid and groups. uid is not 0:
// then capabilities are lost too, and root cannot be had back. It also works with cgo, where the
// C library does it for every thread.
func BecomeUser(uid, gid uint32, groups []uint32) error {
	ids := make([]int, len(groups))
	for i, g := range groups {
		ids[i] = int(g)
	}
	dropBoundingSet()
	if err := syscall.Setgroups(ids); err != nil {
		return fmt.Errorf("setting supplementary groups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("becoming group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	// A change of the uid undoes what Process set, and that the process dies with its parent.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("dying with the parent: %w", err)
	}
	return Process()
}

// NotProtected is the state of memory that can be swapped out.
const NotProtected = "not protected"

// SwapState says why memory of this process cannot be swapped out, in words, or that it can:
// [NotProtected]. locked is what LockAll returned.
func SwapState(locked bool) string {
	if locked {
		return "locked"
	}
	// The first line of /proc/swaps is a heading.
	swaps, err := os.ReadFile("/proc/swaps")
	if err == nil && strings.Count(strings.TrimSpace(string(swaps)), "\n") == 0 {
		return "this machine has no swap"
	}
	cgroups, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(cgroups)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		limit, err := os.ReadFile("/sys/fs/cgroup" + path + "/memory.swap.max")
		if err == nil && strings.TrimSpace(string(limit)) == "0" {
			return "no swap for this control group"
		}
	}
	return NotProtected
}

// IgnoreTerminal makes a child ignore the signals that a terminal sends to all processes in front
// of it. When a child ends is up to the front.
func IgnoreTerminal() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
}
