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
)

// childrenOf counts the child processes of pid that have not ended.
func childrenOf(t *testing.T, pid int) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	n := 0
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name of the program, in brackets, can hold anything.
		rest := string(text[strings.LastIndexByte(string(text), ')')+1:])
		var state string
		var parent int
		fmt.Sscan(rest, &state, &parent)
		if parent == pid && state != "Z" && state != "X" {
			n++
		}
	}
	return n
}

// However often a daemon is told to reload, it keeps few children, readers of a backend that does
// not answer included, and serves by the last configuration.
func TestAStormOfReloadsKeepsFewChildren(t *testing.T) {
	t.Parallel()
	s, port := newSite(t), blackHole(t)
	grantX := func(uid int) {
		s.configure("timeout = \"5s\"\nttl = \"1s\"", fmt.Sprintf("[metastore]\nurl = "+
			"\"postgresql://u:p@127.0.0.1:%d/airflow?sslmode=disable\"\n", port)+
			s.environment("AIRFLOW_CONN_X=http://h/")+grant(bob, "slow_*")+grant(uid, "x"))
	}
	grantX(bob)
	d := s.serve()
	b := as(t, bob)
	b.reads(s.file("x"), dagFile)
	var slow []string
	for i := range 16 {
		slow = append(slow, s.file(fmt.Sprint("slow_", i)))
	}
	const storm = 20 * time.Second
	b.send(request{Op: "churn", Paths: slow, N: 16, For: storm})

	grantX(alice)
	most := 0
	for i := range 200 {
		if i == 199 {
			grantX(bob)
		}
		must(t, d.cmd.Process.Signal(syscall.SIGHUP))
		most = max(most, childrenOf(t, d.cmd.Process.Pid))
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%d children at most, %d reloads", most, strings.Count(d.log(), "connfs: reloaded"))
	// One that reads the configuration, two of the present one and one more that is starting, one
	// of each old one, and what has been killed and is not gone yet.
	if most > 12 {
		t.Errorf("%d children at the same time", most)
	}
	a := as(t, alice)
	eventually(t, "the last configuration serves", func() bool {
		return a.read(s.file("x")).Errno == "EACCES" &&
			string(as(t, bob).read(s.file("x")).Data) == dagFile
	})
	for outcome := range b.receive(storm + patience).Counts {
		if outcome != "ETIMEDOUT" {
			t.Errorf("a reader of the backend that does not answer got %s", outcome)
		}
	}
	eventually(t, "few children are left", func() bool {
		return childrenOf(t, d.cmd.Process.Pid) <= 3
	})
}
