package audit

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// maxQueue is how many bytes of lines wait for a sink that is stuck. Refusals get a
// quarter of it: the rest is kept for the lines of granted reads.
const maxQueue = 1 << 20

// maxSpare is the largest buffer that is kept for the next lines.
const maxSpare = 64 << 10

var (
	errStuck = errors.New("the sink did not take it in time")
	errFull  = errors.New("the sink is stuck, and too many lines wait for it")
)

// queue writes lines, on a goroutine of its own where write(2) could block: that one
// lives while there are lines, and holds up nobody. What comes during one write is written
// with the next, so that a busy log costs fewer system calls than it has lines.
type queue struct {
	mu      sync.Mutex
	w       io.Writer
	direct  *direct // to the file of w; nil: w may block
	next    *batch
	single  batch       // what is written directly; its done is made only where somebody waits
	writing *batch      // nil: nothing is under way, and next is nil
	retired []io.Closer // to be closed when the write under way is over
	spare   []byte
	stuck   atomic.Bool // somebody's patience ended, and nothing was written since
	hung    atomic.Bool // what is written past the queue does not end: no reader may write
	lost    uint64      // lines
	torn    bool        // the last line is not whole
	odd     atomic.Bool // there are lost lines, or a torn one, to be told of first
}

// batch is what one write takes.
type batch struct {
	lines []byte
	from  int // what is before is written
	done  chan struct{}
	err   error // of the write; valid when done is closed
}

// add puts the line of e into the batch that is written next. Where nothing else is
// being written, and that cannot block, it is written at once.
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
		q.odd.Store(true)
		return nil, errFull
	}
	if q.next == nil {
		q.next = q.batch()
	}
	q.next.lines = e.append(q.next.lines)
	return q.next, nil
}

// batch returns an empty one. q.mu is held.
func (q *queue) batch() *batch {
	b := &batch{lines: q.spare, done: make(chan struct{})}
	q.spare = nil
	return b
}

// begin writes the line of e at once where that cannot block, and what is left of the
// work on another goroutine. It returns nil where the line is written. q.mu is held,
// but not meanwhile.
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
	n, err, over := d.write(b.lines)
	q.mu.Lock()
	if !over {
		b = q.batch()
		b.lines, b.from = q.single.lines, n
		if q.single.done != nil {
			b.done, q.single.done = q.single.done, nil
		}
		q.writing = b
		go q.drain(b)
		return b, nil
	}
	q.account(b.lines, n, 0, 0)
	if b = q.end(b, err); b != nil {
		go q.drain(b)
	}
	return nil, err
}

// end tells who waits for b, and returns what is to be written next. q.mu is held.
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

// retire closes what was written to so far, once nothing writes to it. q.mu is held.
func (q *queue) retire(c io.Closer) {
	if q.writing == nil {
		c.Close()
		return
	}
	q.retired = append(q.retired, c)
}

// wait waits until b is written, for as long as patience allows or, where the line is
// required, until the deadline.
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
		lines, head, told := b.lines[b.from:], 0, uint64(0)
		if b.from == 0 {
			lines, head, told = q.frame(lines)
		}
		q.mu.Unlock()
		n, err := w.Write(lines)
		q.mu.Lock()
		q.account(lines, n, head, told)
		b = q.end(b, err)
	}
}

// frame puts before lines what must come first: the end of a line that a full disk
// tore, and the number of those that were lost. It returns the length of that and
// that number too. q.mu is held.
func (q *queue) frame(lines []byte) (framed []byte, head int, told uint64) {
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

// account notes what became of lines, of which n bytes are written. q.mu is held.
func (q *queue) account(lines []byte, n, head int, told uint64) {
	if n >= head {
		q.lost -= told
	}
	if n < len(lines) {
		q.lost += uint64(bytes.Count(lines[max(n, head):], []byte{'\n'}))
	}
	if n > 0 {
		q.torn = lines[n-1] != '\n'
	}
	q.odd.Store(q.torn || q.lost > 0)
}

// cut notes that a line was lost, or written in part, past the queue.
func (q *queue) cut(torn bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost++
	q.torn = q.torn || torn
	q.odd.Store(true)
}
