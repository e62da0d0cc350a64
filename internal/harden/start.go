package harden

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/internal/process"
)

// Confinement says what a process that [Start] starts may do that others may not. Its zero value
// is the narrowest one.
type Confinement struct {
	// KeepCapabilities leaves a process of root's those capabilities with which it can read every
	// file and become another user.
	KeepCapabilities bool
	// WriteAnywhere lets the process write wherever its user may.
	WriteAnywhere bool
	// Writable are absolute paths at or below which it may write.
	Writable []string
}

// Writes reports whether the process may write to any file.
func (c Confinement) Writes() bool { return c.WriteAnywhere || len(c.Writable) > 0 }

// Start starts cmd as a process that is confined for good, with all that it starts:
//
//   - It can never gain rights (no_new_privs), by setuid programs neither. Unless
//     KeepCapabilities is set, it has no capability, and its bounding set is empty.
//   - The kernel refuses system calls that it does not need (seccomp).
//   - It can write only what c says, and cannot reach into processes outside (Landlock).
//   - It dies with this process. As root, all that it started dies with it: it is the first in a
//     PID namespace of its own.
//
// What a kernel cannot do is left out; [StateOf] says so.
//
// The kernel keeps these rights for each thread, and a new process inherits those of the thread
// that forks it. So Start makes a thread that gives up its own rights, and forks. The thread waits
// for the end of the process, because the kernel takes the end of that thread for the end of the
// parent. This also works in a binary with cgo, where Go cannot change every thread.
//
// Whoever starts cmd has to wait for it with process.Wait.
func Start(cmd *exec.Cmd, c Confinement) error {
	starting.Lock()
	defer starting.Unlock()
	raiseLockLimit()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("asking whether the process is dumpable: %w", err)
	}
	// Before its first process, Go forks one to see what the kernel can do. It must not become the
	// first in a PID namespace, which dies with that.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Release()
	}
	started := make(chan error)
	onThreadThatEnds(func() {
		err := giveUp(cmd, c)
		if err == nil {
			err = process.Start(cmd)
		}
		started <- err
		if err == nil {
			waitForEnd(cmd.Process.Pid)
		}
	})
	err = <-started
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

// waitForEnd waits until a child has ended, and leaves its exit status to who reaps it.
func waitForEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// onThreadThatEnds runs f on a thread that ends after it. What f changes of its thread reaches the
// processes that f starts, and nothing else.
func onThreadThatEnds(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread of a process cannot end. While this goroutine holds it, the next
			// one gets another thread.
			onOther := make(chan struct{})
			go func() {
				runtime.LockOSThread()
				close(onOther)
				f()
			}()
			<-onOther
			runtime.UnlockOSThread()
			return
		}
		f() // The thread stays locked, and so it ends with this goroutine.
	}()
}

// giveUp takes from the calling thread what the process of cmd must not have.
func giveUp(cmd *exec.Cmd, c Confinement) error {
	// Where this is not allowed, package resolver looks for what a child leaves behind.
	_ = unix.Unshare(unix.CLONE_NEWPID)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	if !c.WriteAnywhere {
		if err := denyWriting(c.Writable); err != nil {
			return err
		}
	}
	caps, err := capabilities()
	if err != nil {
		return err
	}
	var kept uint64
	if c.KeepCapabilities {
		kept = caps.forReading()
	}
	bounded, err := boundCapabilities(kept)
	if err != nil {
		return err
	}
	caps.inheritable = 0
	// To become another user takes capabilities, and loses them.
	becomesUser := cmd.SysProcAttr != nil && cmd.SysProcAttr.Credential != nil
	if !becomesUser && !c.KeepCapabilities {
		// All memory of this process may be locked, beyond the limit. Then a thread that cannot
		// lock more cannot have more, which Go does not survive. Its exec takes this capability
		// from the new process, because the bounding set is empty.
		var locks uint64
		if bounded {
			locks = caps.permitted & (1 << capIPCLock)
		}
		caps = capabilitySets{effective: locks, permitted: locks}
	}
	if err := caps.set(); err != nil {
		return err
	}
	return denyCalls(c)
}

// boundCapabilities leaves the calling thread's bounding set only these capabilities, if the
// thread has the right to, and reports whether it has. Otherwise no_new_privs alone keeps
// capabilities from coming back.
func boundCapabilities(kept uint64) (bool, error) {
	for c := uintptr(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // the kernel knows no more of them
			return true, nil
		}
		if err == nil && has == 1 && kept&(1<<c) == 0 {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
		if errors.Is(err, unix.EPERM) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("emptying the capability bounding set: %w", err)
		}
	}
}
