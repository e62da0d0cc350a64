package audit

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// fast writes lines to a regular file without any lock of ours: the kernel puts what is
// appended by several threads one after the other, and wakes nobody for it. It is for
// lines of granted reads where the audit is not required; a disk that hangs holds up those
// whose lines it was writing, and after a moment nobody more.
type fast struct {
	raw     syscall.RawConn
	writing atomic.Int32
	// when the write that ended last, or that began alone, began, in nanoseconds
	progress atomic.Int64
}

// newFast returns nil where f cannot be written to so.
func newFast(f *os.File, required bool) *fast {
	raw, err := f.SyscallConn()
	if err != nil || required {
		return nil
	}
	return &fast{raw: raw}
}

// lines is where lines are put together.
var lines = sync.Pool{New: func() any { return new([]byte) }}

// write writes the line of e. It reports false, and has done nothing, where the disk
// does not keep up or the file was closed. torn says that a part of the line was written,
// and not all.
func (f *fast) write(e *Entry) (torn bool, err error, done bool) {
	// What is written is about this moment: no clock is asked again.
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
	buf := lines.Get().(*[]byte)
	defer lines.Put(buf)
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
