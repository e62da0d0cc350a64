package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Lines that come while the disk is full are lost, and the next line says how many.
func TestALineThatTheDiskHadNoRoomForIsCounted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "audit")
	l, err := Open(Config{File: name})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	l.fast.Store(newFast(full, false))
	until := time.Now().Add(time.Minute)
	if err := l.Write(&Entry{ID: "gone", Cached: true}, until); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write to a full disk: %v", err)
	}
	if err := l.Write(&Entry{ID: "there", Cached: true}, until); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"op":"lost"`) ||
		!strings.Contains(lines[0], `"count":1`) || !strings.Contains(lines[1], `"id":"there"`) {
		t.Errorf("the log:\n%s", text)
	}
}

// Once a write has hung for a moment, no other line is written in the fast way.
func TestAHungWriteIsNotJoined(t *testing.T) {
	f := &fast{}
	f.writing.Store(1)
	f.progress.Store(time.Now().Add(-2 * patience).UnixNano())
	if _, err, done := f.write(&Entry{Time: time.Now()}); done || err != nil ||
		f.writing.Load() != 1 {
		t.Errorf("done %v, %v, %d writing", done, err, f.writing.Load())
	}
}
