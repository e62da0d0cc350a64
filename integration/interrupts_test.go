//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connfs/connfs/integration/servers"
)

// counted serves the connections m0, m1 and so on from a PostgreSQL server that logs
// its queries, through a proxy.
func counted(t *testing.T, keys string, passwords []string) (*daemon, *servers.Postgres, *proxy) {
	t.Helper()
	db, key, s := servers.StartPostgres(t), newKey(t), newSite(t)
	db.Exec("airflow", rows(t, key, passwords))
	db.Exec("airflow", "ALTER DATABASE airflow SET log_statement = 'all'")
	p := startProxy(t, db.Port)
	s.configure(keys,
		metastoreTable(p.url(db.URL("airflow", db.Password, "airflow")), key)+grant(alice, "*"))
	return s.serve(), db, p
}

// blocked waits until a process waits for an answer of the daemon's.
func blocked(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "the reader waits in open", func() bool {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
		must(t, err)
		return strings.Contains(string(call), "request_wait_answer")
	})
}

// state returns the letter of a process's state, and 0 once it is gone.
func state(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[0]
}

func TestBlockedReaderCanBeEnded(t *testing.T) {
	t.Parallel()
	d, _, p := counted(t, `timeout = "1m"`, []string{"made-up"})
	p.swallow()
	for _, sig := range []syscall.Signal{
		syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM, syscall.SIGALRM, syscall.SIGHUP,
	} {
		for _, script := range []string{
			`cat "$1"`, `read -r line <"$1"`,
			`python3.11 -c 'import sys; open(sys.argv[1]).read()' "$1"`,
		} {
			// Whoever started the tests may have had SIGHUP ignored.
			cmd := exec.Command("env", "--default-signal=HUP", "bash", "-c", "exec 2>&-; "+script,
				"bash", d.file("m0"))
			if !strings.HasPrefix(script, "read") {
				cmd.Args[4] = "exec 2>&-; exec " + script
			}
			cmd.SysProcAttr, cmd.Dir, cmd.Env = credential(alice), "/",
				[]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
			must(t, cmd.Start())
			pid := cmd.Process.Pid
			blocked(t, pid)
			start := time.Now()
			must(t, syscall.Kill(pid, sig))
			var uninterruptible time.Time
			for s := state(pid); s != 0 && s != 'Z'; s = state(pid) {
				switch {
				case s != 'D':
					uninterruptible = time.Time{}
				case uninterruptible.IsZero():
					uninterruptible = time.Now()
				case time.Since(uninterruptible) > 500*time.Millisecond:
					t.Fatalf("%v: %s is in state D for half a second", sig, script)
				}
				if time.Since(start) > 10*time.Second {
					cmd.Process.Kill()
					t.Fatalf("%v does not end %s", sig, script)
				}
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%v: %s ended after %v", sig, script, took)
			}
			cmd.Wait()
			if cmd.ProcessState.Success() {
				t.Errorf("%v: %s succeeded", sig, script)
			}
		}
	}
	if n := len(d.auditLines(`"errno":"EINTR"`)); n == 0 {
		t.Error("no audit line of an interrupted open")
	}
}

func TestRetryFindsTheResultOfAnInterruptedFetch(t *testing.T) {
	t.Parallel()
	d, db, p := counted(t, "timeout = \"30s\"\nttl = \"60s\"", []string{"made-up"})
	a := as(t, alice)
	p.slow(300 * time.Millisecond)
	// Each reader gives up before the fetch, which takes several round trips.
	for range 3 {
		cmd := exec.Command("cat", d.file("m0"))
		cmd.SysProcAttr, cmd.Dir = credential(alice), "/"
		must(t, cmd.Start())
		blocked(t, cmd.Process.Pid)
		must(t, cmd.Process.Kill())
		cmd.Wait()
	}
	a.reads(d.file("m0"), fileText("http", "h.example", "made-up", ""))
	if n := queries(t, db.Dir, "m0"); n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
}

// A program with an interval timer gets through: each of its attempts joins the fetch
// that the first one began.
func TestReaderUnderSignalsGetsThrough(t *testing.T) {
	t.Parallel()
	d, db, p := counted(t, "timeout = \"30s\"\nttl = \"60s\"", []string{"made-up"})
	p.slow(200 * time.Millisecond)
	script := `
import signal, sys
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
text = open(sys.argv[1]).read()
signal.setitimer(signal.ITIMER_REAL, 0)
sys.stdout.write(text)`
	out, stderr, code := output(t, alice, "python3.11", "-c", script, d.file("m0"))
	if want := fileText("http", "h.example", "made-up", ""); string(out) != want || code != 0 {
		t.Errorf("exit %d: %q %s, want %q", code, out, stderr, want)
	}
	if n := queries(t, db.Dir, "m0"); n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
	if n := len(d.auditLines(`"errno":"EINTR"`)); n == 0 {
		t.Error("the reader was not interrupted once")
	}
}

func TestThousandReadersMakeOneQuery(t *testing.T) {
	t.Parallel()
	d, db, _ := counted(t, "timeout = \"30s\"\nttl = \"60s\"\nepoch = \"60s\"",
		[]string{"made-up-0", "made-up-1", "made-up-2"})
	a := as(t, alice)
	for i := range 3 {
		id := fmt.Sprint("m", i)
		want := fileText("http", "h.example", fmt.Sprint("made-up-", i), "")
		if got := a.do(
			request{Op: "storm", Path: d.file(id), N: 1000},
		); got.Counts[digest([]byte(want))] != 1000 {
			t.Errorf("1,000 readers got %v", got.Counts)
		}
		if n := queries(t, db.Dir, id); n != 1 {
			t.Errorf("%d queries for %s, want 1", n, id)
		}
	}
	if n := queries(t, db.Dir, "m9"); n != 0 {
		t.Errorf("%d queries for what nobody read", n)
	}
	if n := len(d.auditLines(`"op":"open"`, `"allowed":true`)); n != 3000 {
		t.Errorf("%d audit lines of granted opens, want 3000", n)
	}
}

// That a connection is absent is asked for once, and remembered for its own time.
func TestAbsenceIsAskedForOnce(t *testing.T) {
	t.Parallel()
	d, db, _ := counted(t, "negative_ttl = \"60s\"", []string{"made-up"})
	a := as(t, alice)
	if got := a.do(
		request{Op: "storm", Path: d.file("none"), N: 200},
	); got.Counts["ENOENT"] != 200 {
		t.Errorf("200 readers got %v", got.Counts)
	}
	if n := queries(t, db.Dir, "none"); n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
	// Ids that are not granted reach no backend at all.
	as(t, bob).fails(d.file("secret_of_alice"), "EACCES")
	if n := queries(t, db.Dir, "secret_of_alice"); n != 0 {
		t.Errorf("%d queries for what is not granted", n)
	}
}
