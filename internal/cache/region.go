package cache

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Region is memory outside the Go heap that holds secrets: never moved or copied
// by the runtime, left out of core dumps and of forked children, and locked
// against swapping where the process may do so.
type Region struct {
	mem    []byte
	size   int
	locked error
}

// NewRegion maps size bytes, rounded up to whole pages and all zero. It fails
// only if the mapping does; whether it is locked, LockError says.
func NewRegion(size int) (*Region, error) {
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, max(page, (size+page-1)/page*page), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes: %w", size, err)
	}
	err = errors.Join(unix.Madvise(mem, unix.MADV_DONTDUMP), unix.Madvise(mem, unix.MADV_DONTFORK))
	if err != nil {
		err = errors.Join(err, unix.Munmap(mem))
		return nil, fmt.Errorf("keeping %d bytes out of core dumps: %w", size, err)
	}
	return &Region{mem: mem, size: size, locked: unix.Mlock(mem)}, nil
}

// LockError returns nil if the region cannot be swapped out, and otherwise why it
// could not be locked: mostly RLIMIT_MEMLOCK.
func (r *Region) LockError() error { return r.locked }

// Bytes returns the region's memory. It must not be used after Close.
func (r *Region) Bytes() []byte { return r.mem[:r.size] }

// Close wipes the region and gives it back.
func (r *Region) Close() error {
	clear(r.mem)
	runtime.KeepAlive(r.mem)
	mem := r.mem
	r.mem, r.size = nil, 0
	return unix.Munmap(mem)
}
