// Package harden closes what the operating system would otherwise leave open
// around a process that holds secrets: core dumps, tracing, swap, privileges.
package harden

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process keeps the process out of core dumps and out of reach of a debugger of
// the same user. Both roles call it first thing in main, because exec resets it.
func Process() error {
	// Executed anew through /proc/self/exe, a process is listed as "exe".
	os.WriteFile("/proc/self/comm", []byte("connfs"), 0)
	// Both: the limit does not count where core_pattern is a pipe.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process not dumpable: %w", err)
	}
	return nil
}

// mclOnFault is MCL_ONFAULT of mlockall(2): pages are locked as they are touched,
// so that Go's reserved address space costs nothing.
const mclOnFault = 4

// LockAll locks all memory of the process, now and later, and reports whether it
// did. Where the limit on locked memory is finite it does nothing: the limit would
// then fail a later allocation, which the Go runtime does not survive. keeps says
// that the process will keep its capabilities.
func LockAll(keeps bool) bool {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) != nil {
		return false
	}
	if lim.Cur != unix.RLIM_INFINITY && !(keeps && hasCapability(capIPCLock)) {
		return false
	}
	return unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|mclOnFault) == nil
}

// BecomeUser gives up root for uid, gid and groups in every thread, with cgo too: the C
// library does it then. It is for good where uid is not 0, and capabilities go with it.
func BecomeUser(uid, gid uint32, groups []uint32) error {
	ids := make([]int, len(groups))
	for i, g := range groups {
		ids[i] = int(g)
	}
	if err := syscall.Setgroups(ids); err != nil {
		return fmt.Errorf("setting supplementary groups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("becoming group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	// A change of uid resets what Process set.
	return Process()
}

// SwapState says in words whether memory of this process can reach a disk. locked
// is what LockAll returned.
func SwapState(locked bool) string {
	if locked {
		return "locked"
	}
	if b, err := os.ReadFile("/proc/swaps"); err == nil && strings.Count(strings.TrimSpace(string(b)), "\n") == 0 {
		return "this machine has no swap"
	}
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if path, ok := strings.CutPrefix(line, "0::"); ok {
				if m, err := os.ReadFile("/sys/fs/cgroup" + path + "/memory.swap.max"); err == nil && strings.TrimSpace(string(m)) == "0" {
					return "no swap for this control group"
				}
			}
		}
	}
	return "not protected"
}

// IgnoreTerminal makes a child outlive the signals that a terminal sends to everybody
// in front of it: its end is for the front to decide.
func IgnoreTerminal() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
}
