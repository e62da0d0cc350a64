package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

// failureLog says in one line why a read failed, and the same thing about the same
// id not more than once a second: a reader that retries in a loop must not fill the
// disk.
type failureLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	said map[string]time.Time
}

func newFailureLog(log *slog.Logger) *failureLog {
	if log == nil {
		log = slog.Default()
	}
	return &failureLog{log: log, said: make(map[string]time.Time)}
}

// failure logs err. A refusal by policy is in the audit, and an interrupted reader
// is no failure.
func (l *failureLog) failure(c conn.Caller, id string, err error) {
	kind := conn.KindOf(err)
	if kind == conn.NotGranted || kind == conn.Interrupted {
		return
	}
	key := id + "\x00" + kind.String()
	now := time.Now()
	l.mu.Lock()
	if last, ok := l.said[key]; ok && now.Sub(last) < time.Second {
		l.mu.Unlock()
		return
	}
	if len(l.said) > 1000 {
		clear(l.said)
	}
	l.said[key] = now
	l.mu.Unlock()
	level := slog.LevelWarn
	if kind == conn.Absent {
		level = slog.LevelInfo
	}
	if id == "" {
		l.log.Log(context.Background(), level, err.Error())
		return
	}
	l.log.Log(context.Background(), level, "not served", "id", id, "uid", c.UID, "error", err.Error())
}
