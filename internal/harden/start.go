package harden

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Start starts cmd as a process that can never gain rights (no_new_privs): neither it nor
// anything that it starts, setuid programs included. Unless keepCapabilities is set, the
// process also has no capability, and its bounding set is empty.
//
// The kernel keeps these rights for each thread, and a new process inherits those of the
// thread that forks it. So a thread is made for the purpose: it gives up its own rights,
// forks, and ends. This works in a binary with cgo too, where Go cannot change the rights of
// every thread.
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
		// The new process shared its memory with this one until its exec. Where it became
		// another user meanwhile, the kernel set both to fs.suid_dumpable, which may be 2:
		// dumpable for root. Setting it back cannot fail.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	return err
}

// starting is held while a process is started, so that Start sees how dumpable this process
// is meant to be.
var starting sync.Mutex

// onThreadThatEnds runs f on a thread that runs nothing else before it ends, so that what f
// changes of the thread reaches only the processes that f starts.
func onThreadThatEnds(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread of a process cannot end. While this goroutine holds it, the
			// next one gets another thread.
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
	// A process that is to become another user needs its capabilities for that, and loses
	// them to the kernel by it.
	if becomes := cmd.SysProcAttr != nil && cmd.SysProcAttr.Credential != nil; !becomes && !keepCapabilities {
		caps = capabilitySets{}
	}
	return caps.set()
}

// emptyBoundingSet empties the capability bounding set of the calling thread, if that has
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
