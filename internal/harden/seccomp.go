package harden

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seccompSupported says that this binary has a filter for its architecture.
const seccompSupported = auditArch != 0

// deniedCalls are the system calls that no process with secrets in it needs, on every
// architecture: they look into other processes, change what the machine or the namespace is, or
// are a large part of the kernel's history of flaws. They fail with EPERM.
var deniedCalls = []uint32{
	// Other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
	unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	// Mounts, roots and namespaces. SYS_CLONE is looked at more closely.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_OPEN_TREE,
	unix.SYS_OPEN_TREE_ATTR, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_NFSSERVCTL,
	unix.SYS_FANOTIFY_INIT,
	// Parts of the kernel in which flaws are found.
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP,
	unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_KEYCTL, unix.SYS_ADD_KEY,
	unix.SYS_REQUEST_KEY,
	// The machine.
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_INIT_MODULE,
	unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_VHANGUP, unix.SYS_SETTIMEOFDAY,
	unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME,
	unix.SYS_SETDOMAINNAME,
}

// attributeCalls change files without writing to them, which Landlock does not look at.
var attributeCalls = []uint32{
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
	unix.SYS_UTIMENSAT, unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR,
	unix.SYS_SETXATTRAT, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
	unix.SYS_REMOVEXATTRAT, unix.SYS_FILE_SETATTR,
}

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS |
	unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// families are the kinds of sockets that a process may make.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// terminalCalls are the requests of ioctl(2) that type on a terminal.
var terminalCalls = []uint32{unix.TIOCSTI, tiocLinux}

// tiocLinux is TIOCLINUX of ioctl_console(2).
const tiocLinux = 0x541c

// assembler makes a program for the kernel, which looks at each system call.
type assembler struct{ program []unix.SockFilter }

// load loads the 32 bits at this place of struct seccomp_data.
func (a *assembler) load(at uint32) {
	a.program = append(a.program,
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at})
}

func (a *assembler) answer(action uint32) {
	a.program = append(a.program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
}

// test answers where the comparison of what is loaded with k is true (or, with not, false).
func (a *assembler) test(comparison uint16, k uint32, not bool, action uint32) {
	a.skip(comparison, k, !not, 1)
	a.answer(action)
}

// skip goes past the next n instructions unless the comparison comes out as want.
func (a *assembler) skip(comparison uint16, k uint32, want bool, n uint8) {
	step := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k}
	if want {
		step.Jf = n
	} else {
		step.Jt = n
	}
	a.program = append(a.program, step)
}

// only has instructions looked at for one system call. The number of the call is loaded again
// behind them.
func (a *assembler) only(call uint32, look func(*assembler)) {
	var inner assembler
	look(&inner)
	inner.load(atNumber)
	a.skip(unix.BPF_JEQ, call, true, uint8(len(inner.program)))
	a.program = append(a.program, inner.program...)
}

// Where struct seccomp_data has the number of a call, the architecture, and the low half of each
// argument: both architectures are little-endian.
const (
	atNumber = 0
	atArch   = 4
)

func atArgument(n uint32) uint32 { return 16 + 8*n }

func failWith(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// begin returns a program that has looked at the architecture, and has the number of the call
// loaded.
func begin() *assembler {
	a := new(assembler)
	a.load(atArch)
	// Calls of another architecture have other numbers. No program for one can be run.
	a.test(unix.BPF_JEQ, auditArch, true, unix.SECCOMP_RET_KILL_PROCESS)
	a.load(atNumber)
	if x32Bit != 0 {
		a.test(unix.BPF_JGE, x32Bit, false, failWith(unix.ENOSYS))
	}
	// Its flags lie in memory, where a filter cannot look. C libraries then use clone.
	a.test(unix.BPF_JEQ, unix.SYS_CLONE3, false, failWith(unix.ENOSYS))
	return a
}

// deny answers EPERM to these calls, and then allows all others.
func (a *assembler) deny(lists ...[]uint32) []unix.SockFilter {
	for _, calls := range lists {
		for _, call := range calls {
			a.test(unix.BPF_JEQ, call, false, failWith(unix.EPERM))
		}
	}
	a.answer(unix.SECCOMP_RET_ALLOW)
	return a.program
}

// filter returns the program for processes with this confinement.
func filter(c Confinement) []unix.SockFilter {
	a, eperm := begin(), failWith(unix.EPERM)
	a.only(unix.SYS_CLONE, func(a *assembler) {
		a.load(atArgument(0))
		a.test(unix.BPF_JSET, newNamespaces, false, eperm)
	})
	a.only(unix.SYS_SOCKET, func(a *assembler) {
		a.load(atArgument(0))
		for i, family := range families {
			a.skip(unix.BPF_JEQ, family, false, uint8(len(families)-i))
		}
		a.answer(failWith(unix.EAFNOSUPPORT))
	})
	a.only(unix.SYS_IOCTL, func(a *assembler) {
		a.load(atArgument(1))
		for _, request := range terminalCalls {
			a.test(unix.BPF_JEQ, request, false, eperm)
		}
	})
	// That a process dies with its parent can be asked for, and not be taken back.
	a.only(unix.SYS_PRCTL, func(a *assembler) {
		a.load(atArgument(0))
		a.skip(unix.BPF_JEQ, unix.PR_SET_PDEATHSIG, true, 3)
		a.load(atArgument(1))
		a.test(unix.BPF_JEQ, uint32(unix.SIGKILL), true, eperm)
	})
	denied := [][]uint32{deniedCalls, deniedOnThisArch}
	if !c.Writes() {
		denied = append(denied, attributeCalls, attributesOnThisArch)
	}
	return a.deny(denied...)
}

// programsFilter returns the program for processes that may start no other.
func programsFilter() []unix.SockFilter {
	a := begin()
	a.only(unix.SYS_CLONE, func(a *assembler) {
		a.load(atArgument(0))
		a.test(unix.BPF_JSET, unix.CLONE_THREAD, true, failWith(unix.EPERM))
	})
	return a.deny(forksOnThisArch,
		[]uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_LISTEN})
}

// ForbidPrograms keeps this process, every thread of it, from starting another one or becoming
// another program, and from listening for connections, for good. On a kernel, or an architecture,
// that cannot do it, nothing happens. The process was started by [Start].
func ForbidPrograms() error {
	return install(programsFilter(), unix.SECCOMP_FILTER_FLAG_TSYNC)
}

// denyCalls has the kernel look at every system call of the calling thread from now on, and of
// what it starts. On a kernel, or an architecture, that cannot do it, nothing happens.
func denyCalls(c Confinement) error { return install(filter(c), 0) }

// install has the kernel ask program about each system call, of the calling thread or as the
// flags say.
func install(program []unix.SockFilter, flags uintptr) error {
	if !seccompSupported {
		return nil
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	call := func(flags uintptr) (uintptr, unix.Errno) {
		// A thread that differs from this one is the answer of TSYNC.
		thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
			uintptr(unsafe.Pointer(&fprog)))
		return thread, errno
	}
	// Without this flag old kernels turn off a part of the processor, which costs time and
	// protects from nothing here.
	thread, errno := call(flags | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
	if errno == unix.EINVAL {
		thread, errno = call(flags)
	}
	runtime.KeepAlive(program)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL:
		return nil
	case errno != 0:
		return fmt.Errorf("filtering system calls: %w", errno)
	case thread != 0:
		return errors.New("filtering system calls: a thread has another filter")
	}
	return nil
}

// CallsFiltered reports whether the kernel filters the system calls of the calling thread.
func CallsFiltered() bool {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && mode == unix.SECCOMP_MODE_FILTER
}
