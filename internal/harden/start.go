package harden

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Start starts cmd as a process that can never gain rights (no_new_privs), and neither can
// anything that it starts, setuid programs included. Unless keepCapabilities is set, the process
// also has no capability, and its capability bounding set is empty.
//
// The kernel keeps these rights for each thread, and a new process inherits those of the thread
// that forks it. So Start makes a thread that gives up its own rights, forks, and ends. This also
// works in a binary with cgo, where Go cannot change the rights of every thread.
func Start(cmd *exec.Cmd, keepCapabilities bool) error {
	starting.Lock()
	defer starting.Unlock()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("asking whether the process is dumpable: %w", err)
	}
	onThreadThatEnds(func() {
		if err = giveUp(cmd, keepCapabilities); err == nil {
			err = cmd.Start()
		}
	})
	if dumpable == 0 {
		// The new process shared the memory of this one until its exec. If it became another
		// user meanwhile, the kernel made that memory as dumpable as fs.suid_dumpable says,
		// which many systems set to 2: cores go to a program of root's. To set it back cannot
		// fail.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	return err
}

// starting is held while a process is started: what Start reads before must not be what another
// Start has not set back yet.
var starting sync.Mutex

// onThreadThatEnds runs f on a thread that ends after it. What f changes of its thread reaches the
// processes that f starts, and nothing else.
func onThreadThatEnds(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread of a process cannot end. While this goroutine holds it, the next
			// one gets another thread.
			defer runtime.UnlockOSThread()
			onThreadThatEnds(f)
			return
		}
		f() // The thread stays locked, and so it ends with this goroutine.
	}()
	<-done
}

// giveUp takes from the calling thread what the process of cmd must not have.
func giveUp(cmd *exec.Cmd, keepCapabilities bool) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	if !keepCapabilities {
		if err := emptyBoundingSet(); err != nil {
			return err
		}
	}
	caps, err := capabilities()
	if err != nil {
		return err
	}
	caps.inheritable = 0
	// To become another user takes capabilities, and loses them.
	becomesUser := cmd.SysProcAttr != nil && cmd.SysProcAttr.Credential != nil
	if !becomesUser && !keepCapabilities {
		caps = capabilitySets{}
	}
	return caps.set()
}

// emptyBoundingSet empties the capability bounding set of the calling thread, if the thread has
// the right to. Otherwise no_new_privs alone keeps capabilities from coming back.
func emptyBoundingSet() error {
	for c := uintptr(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // the kernel knows no more of them
			return nil
		}
		if err == nil && has == 1 {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("emptying the capability bounding set: %w", err)
		}
	}
}
