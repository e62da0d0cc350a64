package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

// Bounds of the failure log: lines a second in total, and of one uid, which must not
// hide what happens to others.
const (
	maxFailures    = 100
	maxUIDFailures = 20
)

// failureLog logs in one line why a read failed. It logs the same kind of failure of the
// same id at most once a second: a reader that retries in a loop must not fill the disk.
// It writes on a goroutine of its own, so that no reader waits for the log.
type failureLog struct {
	log *slog.Logger

	mu      sync.Mutex
	since   time.Time        // when the second began
	logged  map[failure]bool // in this second
	byUID   map[uint32]int   // lines of each uid in this second
	lines   int              // in this second
	dropped int              // failures beyond the bounds, of which no line tells yet
	pending []record         // to be written
	writing bool             // a goroutine writes
}

// failure is what makes two failures the same.
type failure struct {
	id   string
	kind conn.Kind
}

type record struct {
	level slog.Level
	text  string
	attrs []any
}

func newFailureLog(log *slog.Logger) *failureLog {
	if log == nil {
		log = slog.Default()
	}
	return &failureLog{log: log}
}

// failure logs err, unless it is a refusal by the policy, which is in the audit, or an
// interrupted reader, which is not a failure.
func (l *failureLog) failure(c conn.Caller, id string, err error) {
	kind := conn.KindOf(err)
	if kind == conn.NotGranted || kind == conn.Interrupted {
		return
	}
	level := slog.LevelWarn
	if kind == conn.Absent {
		level = slog.LevelInfo
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.since) >= time.Second {
		l.nextSecond()
	}
	key := failure{id, kind}
	switch {
	case l.logged[key]:
	case l.lines == maxFailures || l.byUID[c.UID] == maxUIDFailures ||
		len(l.pending) > 2*maxFailures:
		l.dropped++
	default:
		l.logged[key] = true
		l.lines++
		if id == "" {
			l.enqueue(record{level, err.Error(), nil})
			return
		}
		l.byUID[c.UID]++
		l.enqueue(record{level, "not served", []any{"id", id, "uid", c.UID, "error", err.Error()}})
	}
}

// nextSecond starts counting for another second. l.mu is held.
func (l *failureLog) nextSecond() {
	if l.dropped > 0 && len(l.pending) <= 2*maxFailures {
		l.enqueue(record{
			slog.LevelWarn, "more reads were not served: the audit has them",
			[]any{"count", l.dropped},
		})
		l.dropped = 0
	}
	l.since, l.lines = time.Now(), 0
	l.logged, l.byUID = make(map[failure]bool), make(map[uint32]int)
}

// enqueue adds a line to those to be written. l.mu is held.
func (l *failureLog) enqueue(r record) {
	l.pending = append(l.pending, r)
	if !l.writing {
		l.writing = true
		go l.drain()
	}
}

// drain writes what is queued.
func (l *failureLog) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > 0 {
		batch := l.pending
		l.pending = nil
		l.mu.Unlock()
		for _, r := range batch {
			l.log.Log(context.Background(), r.level, r.text, r.attrs...)
		}
		l.mu.Lock()
	}
	l.writing = false
}
