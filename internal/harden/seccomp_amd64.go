package harden

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	// x32Bit is set in the numbers of calls of the x32 ABI.
	x32Bit = 0x40000000
)

// deniedOnThisArch are further [deniedCalls].
var deniedOnThisArch = []uint32{
	unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_CREATE_MODULE,
	unix.SYS_QUERY_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_USELIB, unix.SYS_LOOKUP_DCOOKIE,
}

// attributesOnThisArch are further [attributeCalls].
var attributesOnThisArch = []uint32{
	unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES,
	unix.SYS_FUTIMESAT,
}

// forksOnThisArch are the calls beside clone that make processes.
var forksOnThisArch = []uint32{unix.SYS_FORK, unix.SYS_VFORK}
