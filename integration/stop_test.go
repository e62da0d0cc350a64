//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connfs/connfs/resolve/resolvetest"
)

// holdingStore is a store of one connection, the file value in the directory $1. It says on its
// standard error that it is asked, and keeps the answer back while the file hold is there.
const holdingStore = `#!/usr/bin/python3.11
import json, os, sys, time
home = sys.argv[1]
for line in sys.stdin:
    q = json.loads(line)
    a = {"n": q["n"]}
    if q["op"] == "hello":
        a["version"] = 1
    else:
        with open(home + "/value") as f:
            a.update(id=q["id"], result="found", value=f.read())
        print("asked for", q["id"], file=sys.stderr, flush=True)
        while os.path.exists(home + "/hold"):
            time.sleep(0.01)
    print(json.dumps(a), flush=True)
`

// stopped serves the connection "a" from a holdingStore to alice, where ttl is one second.
func stopped(t *testing.T, keys, value string) *daemon {
	t.Helper()
	s := newSite(t)
	program := filepath.Join(s.dir, "store")
	resolvetest.WriteProgram(t, program, []byte(holdingStore))
	must(t, os.Chmod(program, 0o755))
	s.write("value", value)
	s.configure(keys+"\nttl = \"1s\"\nepoch = \"1s\"",
		fmt.Sprintf("[secrets]\nbackend = \"exec\"\nbackend_kwargs = { command = [%q, %q] }\n",
			program, s.home)+grant(alice, "a"))
	return s.serve()
}

// freeze stops the daemon, and not its children, and returns what continues it.
func (d *daemon) freeze() (thaw func()) {
	d.t.Helper()
	pid := d.cmd.Process.Pid
	must(d.t, d.cmd.Process.Signal(syscall.SIGSTOP))
	d.t.Cleanup(func() { d.cmd.Process.Signal(syscall.SIGCONT) })
	eventually(d.t, "the daemon has stopped", func() bool { return state(pid) == 'T' })
	return func() {
		d.t.Helper()
		must(d.t, d.cmd.Process.Signal(syscall.SIGCONT))
	}
}

// crowded waits until n threads of the reader wait for an answer of the daemon's.
func (r *reader) crowded(n int) {
	r.t.Helper()
	eventually(r.t, "every reader waits", func() bool {
		waiting := 0
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", r.cmd.Process.Pid))
		must(r.t, err)
		for _, task := range tasks {
			if call, err := os.ReadFile(task); err == nil &&
				strings.Contains(string(call), "request_wait_answer") {
				waiting++
			}
		}
		return waiting >= n
	})
}

// Whoever opens a file while the daemon is stopped for longer than the TTL, or just before,
// reads what is there when it continues.
func TestAStopPastTheTTLServesNothingOld(t *testing.T) {
	t.Parallel()
	one, other := fileText("http", "h", "one", ""), fileText("http", "h", "other", "")
	const crowd = 72
	// longer is longer than the ttl, and than the second by which an answer may be late.
	const longer = 2500 * time.Millisecond
	all := func(t *testing.T, a *reader) {
		t.Helper()
		got := a.receive(patience)
		if got.Counts[digest([]byte(other))] != crowd {
			t.Errorf("%s %v: the old content is %s, the new one %s; want %d of it",
				got.failure(), got.Counts, digest([]byte(one)), digest([]byte(other)), crowd)
		}
	}
	t.Run("after OPEN", func(t *testing.T) {
		t.Parallel()
		d := stopped(t, `timeout = "30s"`, one)
		path, used, fresh := d.file("a"), as(t, alice), as(t, alice)
		pread := func(r *reader) string {
			got := r.do(request{Op: "pread", Path: path})
			return got.failure() + string(got.Data)
		}
		for _, r := range []*reader{used, fresh} {
			if got := r.do(request{Op: "open", Path: path}); got.failure() != "" {
				t.Fatal(got.failure())
			}
		}
		if got := pread(used); got != one {
			t.Fatalf("before the stop: %q", got)
		}
		thaw := d.freeze()
		d.write("value", other)
		time.Sleep(longer)
		thaw()
		for range 2 {
			if got := pread(fresh); got != other {
				t.Errorf("a file that was opened before the stop: %q", got)
			}
		}
		if got := pread(used); got != "ESTALE" {
			t.Errorf("a file of which the old content was read: %q", got)
		}
	})
	t.Run("while readers wait", func(t *testing.T) {
		t.Parallel()
		d, a := stopped(t, `timeout = "30s"`, one), as(t, alice)
		a.reads(d.file("a"), one)
		thaw := d.freeze()
		a.send(request{Op: "storm", Path: d.file("a"), N: crowd})
		a.crowded(crowd)
		d.write("value", other)
		time.Sleep(longer)
		thaw()
		all(t, a)
	})
	for name, c := range map[string]struct {
		timeout string
		stop    time.Duration
	}{
		"while the answer is on its way":                {"30s", longer},
		"past the deadline, with the answer on its way": {"5s", 6500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, a := stopped(t, fmt.Sprintf("timeout = %q", c.timeout), one), as(t, alice)
			hold := d.write("hold", "")
			a.send(request{Op: "storm", Path: d.file("a"), N: crowd})
			d.await("asked for a")
			a.crowded(crowd)
			thaw := d.freeze()
			d.write("value", other)
			must(t, os.Remove(hold)) // it has read the old value
			time.Sleep(c.stop)
			thaw()
			all(t, a)
		})
	}
}
