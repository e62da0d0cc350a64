package harden

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Limits of a resolver child, and of each program that it starts.
const (
	// maxData bounds private memory that can be written, in bytes. (A limit on addresses would be
	// no limit for Go, which reserves hundreds of times what it uses.)
	maxData = 2 << 30
	maxOpen = 4096 // descriptors
)

// LimitChild bounds what this process, and each that it starts, can use: memory, descriptors and,
// unless it writes files, the size of files, which is then 0. A limit that is lower already stays.
// The number of processes is not bounded here: the kernel counts all of a user, in other
// containers too.
func LimitChild(writes bool) error {
	// What a program that it started leaves behind is its own, and not the front's, while it
	// lives. On a kernel that cannot do it, PID 1 gets that.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	limits := map[int]uint64{unix.RLIMIT_DATA: maxData, unix.RLIMIT_NOFILE: maxOpen}
	if !writes {
		limits[unix.RLIMIT_FSIZE] = 0
	}
	for resource, most := range limits {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("reading limit %d: %w", resource, err)
		}
		lower := unix.Rlimit{Cur: min(now.Cur, most), Max: min(now.Max, most)}
		if err := unix.Setrlimit(resource, &lower); err != nil {
			return fmt.Errorf("setting limit %d: %w", resource, err)
		}
	}
	return nil
}

// raiseLockLimit lets this process and its children lock all of their memory, where it may.
var raiseLockLimit = sync.OnceFunc(func() {
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK,
		&unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
})
