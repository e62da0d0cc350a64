package audit

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// fast writes lines to a regular file without a lock of connfs's own: the kernel appends
// the lines of several threads one after the other, and need not wake a thread for it. It
// is for the lines of granted reads where the audit is not required. A disk that hangs
// holds up the readers whose lines are being written; after [patience] nobody joins them.
type fast struct {
	raw     syscall.RawConn
	writing atomic.Int32 // how many threads are writing now
	// progress is the last moment, in nanoseconds since 1970, at which the disk is known to
	// have kept up: the time of the newest line that was written, or that found no other
	// write under way.
	progress atomic.Int64
}

// newFast returns nil if f cannot be written to in this way.
func newFast(f *os.File, required bool) *fast {
	raw, err := f.SyscallConn()
	if err != nil || required {
		return nil
	}
	return &fast{raw: raw}
}

// buffers holds the memory in which lines are put together.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// write writes the line of e. It does nothing and reports false for written if the disk
// does not keep up or the file was closed. torn says that only a part of the line was
// written.
func (f *fast) write(e *Entry) (torn bool, err error, written bool) {
	// The entry has just been made, so its time saves another look at the clock.
	now := e.Time.Add(e.Duration).UnixNano()
	if f.writing.Add(1) == 1 {
		f.progress.Store(now)
	} else if now-f.progress.Load() > int64(patience) {
		f.writing.Add(-1)
		return false, nil, false
	}
	defer func() {
		f.progress.Store(now)
		f.writing.Add(-1)
	}()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = e.append((*buf)[:0])
	n := 0
	if closed := f.raw.Control(func(fd uintptr) {
		for n, err = unix.Write(int(fd), *buf); err == unix.EINTR; {
			n, err = unix.Write(int(fd), *buf)
		}
	}); closed != nil {
		return false, nil, false
	}
	if n == len(*buf) {
		return false, nil, true
	}
	if err == nil {
		err = unix.ENOSPC
	}
	return n > 0, err, true
}
