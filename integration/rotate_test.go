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
