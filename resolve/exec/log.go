package exec

import (
	"bufio"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
)

// How much of what a program writes to standard error is logged.
const (
	logLines    = 10               // in each interval
	logEvery    = 10 * time.Second // the interval
	logLineSize = 500              // bytes of a line
)

// logErrors logs what a program writes to standard error until it ends. It reads on
// however much that is: a program must not come to a halt because its log is full.
func logErrors(stderr io.Reader) {
	lines := bufio.NewReaderSize(stderr, 4<<10)
	var (
		since   time.Time
		logged  int
		dropped int
	)
	for {
		line, more, err := lines.ReadLine()
		if err != nil {
			break
		}
		text := logText(string(line[:min(len(line), logLineSize)]))
		for more && err == nil {
			_, more, err = lines.ReadLine()
		}
		if time.Since(since) >= logEvery {
			if dropped > 0 {
				slog.Warn("secrets plugin: lines left out", "lines", dropped)
			}
			since, logged, dropped = time.Now(), 0, 0
		}
		if logged >= logLines {
			dropped++
			continue
		}
		logged++
		slog.Warn("secrets plugin", "stderr", text)
	}
	if dropped > 0 {
		slog.Warn("secrets plugin: lines left out", "lines", dropped)
	}
}

// logText is a line in which nothing can forge another one.
func logText(line string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
}
