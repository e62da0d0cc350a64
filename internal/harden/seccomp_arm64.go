package harden

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	x32Bit    = 0
)

// deniedOnThisArch are further [deniedCalls].
var deniedOnThisArch = []uint32{unix.SYS_LOOKUP_DCOOKIE}

// attributesOnThisArch are further [attributeCalls], and forksOnThisArch the calls beside clone
// that make processes: this architecture has none.
var attributesOnThisArch, forksOnThisArch []uint32
