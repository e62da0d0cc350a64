package resolver

import (
	"bufio"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// What of the output of children is logged: so many lines of all children together in logEvery, and
// so many bytes of each.
const (
	logLines    = 50
	logEvery    = 10 * time.Second
	logLineSize = 1000
	// logWaiting is how many lines of one child wait for a log that is slow.
	logWaiting = 16
	// lastWords is how long output is read after the end of a child. What the child started may
	// hold its pipe open.
	lastWords = 100 * time.Millisecond
)

// relay logs what a child writes to standard error, line by line, until it ends. It reads on
// however much that is, and however slow the log is: neither may hold up the child.
func relay(stderr *os.File, log *slog.Logger) {
	waiting := make(chan string, logWaiting)
	dropped := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for line := range waiting {
			log.Warn("a resolver child says", "line", line)
		}
	}()
	lines := bufio.NewReaderSize(stderr, 4<<10)
	for {
		line, more, err := lines.ReadLine()
		if err != nil {
			break
		}
		text := printable(string(line[:min(len(line), logLineSize)]))
		for more && err == nil {
			_, more, err = lines.ReadLine()
		}
		if !outputBudget.take(time.Now()) {
			dropped++
			continue
		}
		select {
		case waiting <- text:
		default:
			dropped++
		}
	}
	stderr.Close()
	close(waiting)
	<-done
	if dropped > 0 {
		log.Warn("lines of a resolver child are left out", "lines", dropped)
	}
}

// budget bounds how many lines are logged in each logEvery.
type budget struct {
	mu    sync.Mutex
	since time.Time
	used  int
}

// outputBudget is that of all children.
var outputBudget budget

// take reports whether another line may be logged now.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= logEvery {
		b.since, b.used = now, 0
	}
	b.used++
	return b.used <= logLines
}

// printable is a line in which nothing can forge another one.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
}
