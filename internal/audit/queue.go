package audit

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// maxQueue is how many bytes of lines may wait for a file or socket that is stuck. Refusals
// may fill a quarter of it: the rest is kept for the lines of granted reads.
const maxQueue = 1 << 20

// maxSpare is the largest buffer that is kept for the next lines.
const maxSpare = 64 << 10

var (
	errStuck = errors.New("the line could not be written in time")
	errFull  = errors.New("writing is stuck, and too many lines wait for it")
)

// queue writes lines. Where write(2) could block, it does so on a goroutine of its own,
// which lives as long as there are lines. Lines that come during one write are written
// together by the next, so that a busy log costs fewer system calls than it has lines.
type queue struct {
	mu      sync.Mutex
	w       io.Writer
	direct  direct      // writes where w writes; nil: w may block
	next    *batch      // what is written after writing; nil: nothing
	single  batch       // what is written directly; done is made only if somebody waits
	writing *batch      // what is being written; nil: nothing, and next is nil too
	retired []io.Closer // to be closed when the write under way has ended
	spare   []byte      // a buffer for the next batch
	stuck   atomic.Bool // a reader's patience ended, and no write has ended since
	hung    atomic.Bool // a fast write does not end: no reader may write itself
	lost    uint64      // how many lines are missing in the log, and not reported yet
	torn    bool        // the log ends with a part of a line
	// reportFirst says that lines are lost, or one is torn, which the next write reports.
	reportFirst atomic.Bool
}

// batch is what one write takes.
type batch struct {
	lines []byte
	from  int           // how many bytes of lines are written already
	done  chan struct{} // closed when the write has ended
	err   error         // the write's error; valid when done is closed
}

// add puts the line of e into the batch that is written next. If nothing else is being
// written and write(2) cannot block, it writes the line at once and returns nil.
func (q *queue) add(e *Entry) (*batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writing == nil {
		return q.begin(e)
	}
	limit := maxQueue
	if e.Errno != "" {
		limit /= 4
	}
	if q.next != nil && len(q.next.lines) >= limit {
		q.lost++
		q.reportFirst.Store(true)
		return nil, errFull
	}
	if q.next == nil {
		q.next = q.batch()
	}
	q.next.lines = e.append(q.next.lines)
	return q.next, nil
}

// batch returns an empty batch. q.mu is held.
func (q *queue) batch() *batch {
	b := &batch{lines: q.spare, done: make(chan struct{})}
	q.spare = nil
	return b
}

// begin writes the line of e at once if that cannot block, and leaves what remains to
// another goroutine. It returns nil if the line is written. q.mu is held, but not while
// it writes.
func (q *queue) begin(e *Entry) (*batch, error) {
	d := q.direct
	if d == nil || q.torn || q.lost > 0 || q.hung.Load() {
		b := q.batch()
		b.lines = e.append(b.lines)
		q.writing = b
		go q.drain(b)
		return b, nil
	}
	b := &q.single
	b.lines, q.spare, q.writing = e.append(q.spare), nil, b
	q.mu.Unlock()
	n, err, done := d.write(b.lines)
	q.mu.Lock()
	if !done {
		b = q.batch()
		b.lines, b.from = q.single.lines, n
		if q.single.done != nil {
			b.done, q.single.done = q.single.done, nil
		}
		q.writing = b
		go q.drain(b)
		return b, nil
	}
	q.account(b.lines, n, 0, 0, d == q.direct)
	if b = q.end(b, err); b != nil {
		go q.drain(b)
	}
	return nil, err
}

// end wakes those who wait for b, and returns the batch to write next. q.mu is held.
func (q *queue) end(b *batch, err error) *batch {
	q.stuck.Store(false)
	q.hung.Store(false)
	if cap(b.lines) <= maxSpare {
		q.spare = b.lines[:0]
	}
	b.lines, b.err = nil, err
	if b.done != nil {
		close(b.done)
	}
	if b == &q.single {
		b.done = nil
	}
	q.writing, q.next = q.next, nil
	for _, c := range q.retired {
		c.Close()
	}
	q.retired = nil
	return q.writing
}

// use writes to w, and with d where that cannot block, from now on. torn says that w ends with a
// part of a line. q.mu is held, or q is new.
func (q *queue) use(w io.Writer, d direct, torn bool) {
	q.w, q.direct, q.torn = w, d, torn
	q.reportFirst.Store(q.torn || q.lost > 0)
}

// retire closes the old file as soon as nothing is being written to it. q.mu is held.
func (q *queue) retire(c io.Closer) {
	if q.writing == nil {
		c.Close()
		return
	}
	q.retired = append(q.retired, c)
}

// wait waits until b is written: until the deadline if the line is required, and otherwise
// no longer than patience.
func (q *queue) wait(b *batch, until time.Time, required bool) error {
	select {
	case <-b.done:
		return b.err
	default:
	}
	left := time.Until(until)
	if !required {
		left = min(left, patience)
		if q.stuck.Load() {
			left = 0
		}
	}
	if left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-b.done:
			return b.err
		case <-timer.C:
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-b.done:
		return b.err
	default:
		q.stuck.Store(true)
		return errStuck
	}
}

// flush waits until everything is written, at most for d.
func (q *queue) flush(d time.Duration) error {
	until := time.Now().Add(d)
	for {
		q.mu.Lock()
		b := q.next
		if b == nil {
			b = q.writing
		}
		var done chan struct{}
		if b != nil {
			if b.done == nil {
				b.done = make(chan struct{})
			}
			done = b.done
		}
		q.mu.Unlock()
		if b == nil {
			return nil
		}
		select {
		case <-done:
		case <-time.After(time.Until(until)):
			return errStuck
		}
	}
}

// drain writes b and what is queued after it, and ends.
func (q *queue) drain(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for b != nil {
		w := q.w
		lines, prefix, reported := b.lines[b.from:], 0, uint64(0)
		if b.from == 0 {
			lines, prefix, reported = q.withReport(lines)
		}
		q.mu.Unlock()
		n, err := w.Write(lines)
		q.mu.Lock()
		q.account(lines, n, prefix, reported, w == q.w)
		b = q.end(b, err)
	}
}

// withReport puts before lines what must come first: the end of a line that a full disk
// tore, and a line that says how many were lost. It also returns the length of this prefix
// and that number. q.mu is held.
func (q *queue) withReport(lines []byte) (all []byte, prefix int, reported uint64) {
	if !q.torn && q.lost == 0 {
		return lines, 0, 0
	}
	var b []byte
	if q.torn {
		b = append(b, '\n')
	}
	if q.lost > 0 {
		e := Entry{
			Time: time.Now(), Op: "lost", Rule: "lines that could not be written", Count: q.lost,
		}
		b = e.append(b)
	}
	return append(b, lines...), len(b), q.lost
}

// account notes which of lines are lost if only n bytes of them are written. Their first
// prefix bytes report the loss of reported lines. present says that they went to what q writes
// to now, and not to a file that was in use before. q.mu is held.
func (q *queue) account(lines []byte, n, prefix int, reported uint64, present bool) {
	if n >= prefix {
		q.lost -= reported
	}
	if n < len(lines) {
		q.lost += uint64(bytes.Count(lines[max(n, prefix):], []byte{'\n'}))
	}
	if n > 0 && present {
		q.torn = lines[n-1] != '\n'
	}
	q.reportFirst.Store(q.torn || q.lost > 0)
}

// noteLost notes that a fast write lost a line, or wrote only a part of it.
func (q *queue) noteLost(torn bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost++
	q.torn = q.torn || torn
	q.reportFirst.Store(true)
}
