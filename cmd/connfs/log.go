package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// logHandler writes one line for each record: "connfs: message key=value". In front of it, systemd
// gets the priority as "<4>"; the journal adds the time.
type logHandler struct {
	mu       *sync.Mutex
	w        io.Writer
	level    slog.Level
	attrs    []slog.Attr
	priority bool // for systemd
}

func newLogHandler(w io.Writer, level slog.Level) *logHandler {
	return &logHandler{
		mu: new(sync.Mutex), w: w, level: level, priority: os.Getenv("JOURNAL_STREAM") != "",
	}
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := h.line(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(line)
	return err
}

// line returns the line of a record.
func (h *logHandler) line(r slog.Record) []byte {
	var b bytes.Buffer
	if h.priority {
		priority := 6
		switch {
		case r.Level >= slog.LevelError:
			priority = 3
		case r.Level >= slog.LevelWarn:
			priority = 4
		}
		fmt.Fprintf(&b, "<%d>", priority)
	}
	b.WriteString("connfs: ")
	if r.Level == slog.LevelWarn {
		b.WriteString("warning: ")
	}
	b.WriteString(oneLine(r.Message))
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%s", a.Key, quote(a.Value.Resolve().String()))
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	return b.Bytes()
}

// lostLines returns the line that says how many lines standard error did not take.
func lostLines(lost uint64) []byte {
	r := slog.NewRecord(time.Now(), slog.LevelWarn,
		"lines of this log are lost, because standard error did not take them", 0)
	r.Add("count", lost)
	return newLogHandler(io.Discard, slog.LevelInfo).line(r)
}

// oneLine escapes a text that holds anything else than letters, signs and spaces, so that an id or
// a path cannot look like a line of its own, command a terminal, or turn around what follows it.
func oneLine(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// unprintable is true for control characters, marks of writing direction, separators of lines, and
// everything else that nobody sees.
func unprintable(r rune) bool { return !strconv.IsPrint(r) }

// jsonText returns v as JSON in one line, in which what is unprintable is escaped.
func jsonText(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // what commands print always has a JSON form
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		switch {
		case !unprintable(r):
			out.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&out, `\u%04x`, unit)
			}
		}
	}
	return out.String()
}

// quote quotes the value of an attribute, where it would not be one word without quotes.
func quote(s string) string {
	unsafe := func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r > '~' }
	if s == "" || strings.ContainsFunc(s, unsafe) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &c
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
