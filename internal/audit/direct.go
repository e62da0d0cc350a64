package audit

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct writes on the reader's own goroutine, as long as that cannot block. It saves the switch
// to another goroutine.
type direct interface {
	// write writes lines, or as much of them as it can without blocking. It reports whether it is
	// done; if not, another goroutine has to write the rest.
	write(lines []byte) (n int, err error, done bool)
}

// writeWait and tryWrite are the two ways to a standard error that is shared.
type (
	writeWait struct{ Stderr }
	tryWrite  struct{ Stderr }
)

func (w writeWait) Write(lines []byte) (int, error) { return w.WriteWait(lines) }

func (w tryWrite) write(lines []byte) (int, error, bool) { return w.TryWrite(lines) }

// directFile is the direct way to a file.
type directFile struct {
	file *os.File
	raw  syscall.RawConn
	// plain allows an ordinary write(2) where the kernel cannot promise not to block:
	// ext4 and tmpfs do not know RWF_NOWAIT. It is for regular files only, and only where
	// the audit is not required: a disk that hangs then holds up the one reader whose
	// line is being written, and nobody after it.
	plain bool

	// The fields below belong to the one write that is under way.
	unable bool // the file does not know RWF_NOWAIT
	try    func(fd uintptr)
	lines  [1][]byte
	n      int
	err    error
}

// newDirect returns nil if f can only be written to on another goroutine.
func newDirect(f *os.File, plain bool) direct {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	d := &directFile{file: f, raw: raw, plain: plain}
	d.try = func(fd uintptr) {
		d.n, d.err = unix.Pwritev2(int(fd), d.lines[:], -1, unix.RWF_NOWAIT)
	}
	return d
}

func (d *directFile) write(lines []byte) (n int, err error, done bool) {
	if !d.unable {
		d.lines[0] = lines
		if err := d.raw.Control(d.try); err != nil {
			return 0, err, true
		}
		switch d.err {
		case nil:
			return d.n, nil, d.n == len(lines)
		case unix.EAGAIN, unix.EINTR:
			return 0, nil, false
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL, unix.ESPIPE:
			d.unable = true
		default:
			return 0, d.err, true
		}
	}
	if !d.plain {
		return 0, nil, false
	}
	n, err = d.file.Write(lines)
	return n, err, true
}
