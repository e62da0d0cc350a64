//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Lines are written all the time while the file is renamed and opened again: each open has
// its line, whole, in one file or another.
func TestRotationLosesNoLine(t *testing.T) {
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprint("required=", required), func(t *testing.T) {
			s := newSite(t)
			text := fileText("http", "h.example", "made-up", "")
			s.configure(
				"",
				fmt.Sprintf("required = %t\n", required)+s.environment(
					"AIRFLOW_CONN_X="+strings.TrimSpace(text),
				)+grant(alice, "x"),
			)
			d := s.serve()
			a := as(t, alice)
			const during = 3 * time.Second
			a.send(request{Op: "churn", Paths: []string{d.file("x")}, N: 4, For: during})
			rotations := 0
			for until := time.Now().Add(
				during - 500*time.Millisecond,
			); time.Now().Before(until); rotations++ {
				must(t, os.Rename(d.audit, fmt.Sprintf("%s.%d", d.audit, rotations)))
				d.reload("connfs: reloaded\n")
			}
			reads := 0
			for outcome, n := range a.receive(during + patience).Counts {
				if outcome != digest([]byte(text)) {
					t.Errorf("%d reads ended with %s", n, outcome)
				}
				reads += n
			}
			d.stop()
			files, err := filepath.Glob(d.audit + "*")
			must(t, err)
			lines := 0
			for _, file := range files {
				b, err := os.ReadFile(file)
				must(t, err)
				for line := range strings.Lines(string(b)) {
					var e struct {
						Op      string
						Allowed bool
					}
					if err := json.Unmarshal([]byte(line), &e); err != nil {
						t.Fatalf("%s: not a line: %q", filepath.Base(file), line)
					}
					if e.Op == "open" && e.Allowed {
						lines++
					}
				}
			}
			if lines != reads || len(files) != rotations+1 || rotations < 3 {
				t.Errorf("%d lines of %d reads in %d files, after %d rotations", lines, reads,
					len(files), rotations)
			}
			t.Logf("%d reads, %d rotations", reads, rotations)
		})
	}
}

// A full disk tears the last line of the audit. What comes when there is room again, from the same
// daemon or from the next, begins a line of its own.
func TestALineAfterATornOneIsItsOwn(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		s := newSite(t)
		disk := filepath.Join(s.dir, "disk")
		must(t, os.Mkdir(disk, 0o700), unix.Mount("connfs-test", disk, "tmpfs", 0, "size=64k"))
		t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
		s.audit = filepath.Join(disk, "audit.jsonl")
		text := fileText("http", "h", "made-up", "")
		s.configure("", fmt.Sprintf("required = %v\n", required)+
			s.environment("AIRFLOW_CONN_A="+strings.TrimSpace(text))+grant(alice, "*"))
		d, a := s.serve(), as(t, alice)
		filler := filepath.Join(disk, "filler")
		tear := func() {
			a.reads(d.file("a"), text) // so that a part of a page is left
			f, err := os.Create(filler)
			must(t, err)
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			f.Close()
			eventually(t, "a line is torn", func() bool {
				a.read(d.file("a"))
				text, err := os.ReadFile(s.audit)
				must(t, err)
				return len(text) > 0 && text[len(text)-1] != '\n'
			})
		}
		// torn returns how many lines are no entries, and whether the last line is one.
		torn := func() (n int, last bool) {
			for _, line := range s.auditLines() {
				last = json.Valid([]byte(line))
				if !last {
					n++
				}
			}
			return n, last
		}
		tear()
		must(t, os.Remove(filler))
		a.reads(d.file("a"), text)
		if n, last := torn(); n != 1 || !last {
			t.Errorf("required %v: %d torn lines, the last is whole: %v", required, n, last)
		}
		tear()
		d.stop()
		must(t, os.Remove(filler))
		d = s.serve()
		a.reads(d.file("a"), text)
		if n, last := torn(); n != 2 || !last {
			t.Errorf("required %v, after a restart: %d torn lines, the last is whole: %v", required,
				n, last)
		}
	}
}
