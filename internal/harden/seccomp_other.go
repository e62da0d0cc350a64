//go:build !amd64 && !arm64

package harden

// There is no filter for this architecture.
const (
	auditArch = 0
	x32Bit    = 0
)

var deniedOnThisArch, attributesOnThisArch, forksOnThisArch []uint32
