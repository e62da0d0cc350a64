// Package stderr writes the lines of a daemon to standard error, and lets nobody wait for it.
//
// Standard error can stop taking bytes for as long as it likes: the log driver of a container
// stalls, or somebody presses Ctrl-S on a terminal. Then lines wait here, up to a bound, and those
// beyond it are lost and counted. A program that ends soon needs none of this, and writes to
// os.Stderr.
package stderr

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxQueue is how many bytes of lines of the log may wait.
const maxQueue = 256 << 10

// atomic is the largest write that a pipe takes wholly or not at all (PIPE_BUF).
const atomic = 4096

// Writer writes lines to standard error, in the order in which they came. It may be used
// concurrently. Its lock is never held while anything is written.
type Writer struct {
	fd int
	// report returns the line that says how many lines were lost.
	report func(lost uint64) []byte
	how    how

	mu    sync.Mutex
	queue []item
	size  int           // bytes of the lines of the log in queue
	idle  chan struct{} // closed when nothing is being written any more; nil: nothing is
	lost  uint64        // lines of the log that no line has reported yet
	// broken says that the last write failed: the loss is reported with the next line.
	broken bool
}

// item is what one turn writes.
type item struct {
	lines  []byte
	lost   uint64       // lines is the report of so many lost lines
	result chan<- error // of lines that somebody waits for, and that count themselves
	n      *int         // how many bytes of such lines were written
}

// New takes over the standard error of this process. Where that is a pipe or a terminal, it
// replaces descriptor 2 by one that never blocks: what Go's runtime writes there when the process
// crashes cannot keep it from ending. Nobody else who has that pipe or terminal notices. report
// returns a line that says how many lines were lost.
func New(report func(lost uint64) []byte) *Writer { return newWriter(unix.Stderr, report) }

func newWriter(fd int, report func(lost uint64) []byte) *Writer {
	return &Writer{fd: fd, report: report, how: takeOver(fd)}
}

// Write takes one line of the log and returns at once. It never fails: a line for which there is
// no room is counted.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size+len(line) > maxQueue {
		w.lost++
		return len(line), nil
	}
	w.reportLost()
	w.push(item{lines: bytes.Clone(line)})
	return len(line), nil
}

// WriteWait writes lines that the caller itself bounds and counts, such as those of the audit. It
// returns when they are written, which can take as long as standard error likes. Nothing of
// another line stands between them.
func (w *Writer) WriteWait(lines []byte) (int, error) {
	result, n := make(chan error, 1), 0
	w.mu.Lock()
	w.reportLost()
	w.push(item{lines: lines, result: result, n: &n})
	w.mu.Unlock()
	err := <-result
	return n, err
}

// TryWrite is WriteWait for lines that can be written at once, on the caller's own goroutine. If
// they would have to wait, it writes nothing and reports false for done.
func (w *Writer) TryWrite(lines []byte) (n int, err error, done bool) {
	if !w.how.whole || len(lines) > atomic {
		return 0, nil, false
	}
	w.mu.Lock()
	if w.idle != nil || w.lost > 0 {
		w.mu.Unlock()
		return 0, nil, false
	}
	w.idle = make(chan struct{})
	w.mu.Unlock()
	n, err = w.how.write(w.fd, lines)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 {
		go w.drain()
	} else {
		w.rest()
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil, false
	}
	return n, err, true
}

// Flush waits until everything is written, for d at most.
func (w *Writer) Flush(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		w.mu.Lock()
		idle := w.idle
		w.mu.Unlock()
		if idle == nil {
			return
		}
		select {
		case <-idle:
		case <-timer.C:
			return
		}
	}
}

// push adds an item, and starts the goroutine that writes if nothing is being written. w.mu is
// held.
func (w *Writer) push(i item) {
	w.queue = append(w.queue, i)
	if i.result == nil {
		w.size += len(i.lines)
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
		go w.drain()
	}
}

// reportLost adds the report of the lost lines, if there are any. w.mu is held.
func (w *Writer) reportLost() {
	if w.lost > 0 {
		lost := w.lost
		w.lost = 0
		w.push(item{lines: w.report(lost), lost: lost})
	}
}

// rest says that nothing is being written any more. w.mu is held.
func (w *Writer) rest() {
	close(w.idle)
	w.idle, w.queue = nil, nil
}

// drain writes what is queued, and ends.
func (w *Writer) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if len(w.queue) == 0 && !w.broken {
			w.reportLost()
		}
		if len(w.queue) == 0 {
			w.rest()
			return
		}
		i := w.queue[0]
		w.queue[0] = item{}
		w.queue = w.queue[1:]
		w.mu.Unlock()
		n, err := w.writeAll(i.lines)
		w.mu.Lock()
		w.broken = err != nil
		if i.result != nil {
			*i.n = n
			i.result <- err
			continue
		}
		w.size -= len(i.lines)
		if err != nil {
			w.lost += max(1, i.lost)
		}
	}
}

// retry is how long a write waits that standard error refused although it had said that it takes
// more.
const retry = 10 * time.Millisecond

// writeAll writes lines, however long it takes, and returns how many bytes of them are written.
func (w *Writer) writeAll(lines []byte) (n int, err error) {
	for n < len(lines) {
		wrote, err := w.how.write(w.fd, wholeLines(lines[n:]))
		n += max(wrote, 0)
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			w.how.wait(w.fd)
		default:
			return n, err
		}
	}
	return n, nil
}

// wholeLines returns as many of the first lines as one write to a pipe takes wholly, so that other
// programs that write to the same pipe tear none of them.
func wholeLines(lines []byte) []byte {
	if len(lines) <= atomic {
		return lines
	}
	if end := bytes.LastIndexByte(lines[:atomic], '\n'); end >= 0 {
		return lines[:end+1]
	}
	return lines[:atomic]
}
