package harden

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What Process and its companions do cannot be undone, so each is tried in a process
// of its own: this binary, which does what role says and prints its state.
const roleVariable = "CONNFS_TEST_HARDEN"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	threads()
	var err error
	switch role {
	case "process":
		err = Process()
	case "nnp":
		err = NoNewPrivileges()
	case "drop":
		if err = NoNewPrivileges(); err == nil {
			err = DropCapabilities()
		}
	case "become":
		if err = Process(); err == nil {
			err = BecomeUser(12345, 12346, []uint32{12347})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	report()
}

// threads makes some threads and keeps them.
func threads() {
	var started sync.WaitGroup
	for range 8 {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			started.Done()
			select {}
		}()
	}
	started.Wait()
}

// report prints what the kernel says of every thread, and of the process.
func report() {
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Printf("core %d %d\ndumpable %d\n", limit.Cur, limit.Max, dumpable)
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(status), "\n") {
			for _, key := range []string{"NoNewPrivs:", "CapEff:", "CapPrm:", "Uid:", "Gid:", "Groups:"} {
				if strings.HasPrefix(line, key) {
					fmt.Println(strings.Join(strings.Fields(line), " "))
				}
			}
		}
	}
}

// state runs this binary in a role and returns what it printed.
func state(t *testing.T, role string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// everywhere fails unless every thread reports line and none another one of the key.
func everywhere(t *testing.T, out, key, want string) {
	t.Helper()
	n := 0
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, key) {
			n++
			if line != want {
				t.Errorf("a thread has %q, want %q", line, want)
			}
		}
	}
	if n < 8 {
		t.Errorf("only %d threads report %s\n%s", n, key, out)
	}
}

func TestProcessLeavesNoCoreAndNoDebugger(t *testing.T) {
	out, err := state(t, "process")
	if err != nil {
		t.Fatal(out, err)
	}
	for _, want := range []string{"core 0 0\n", "dumpable 0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestNoNewPrivilegesReachesEveryThread(t *testing.T) {
	out, err := state(t, "nnp")
	if err != nil {
		t.Fatal(out, err)
	}
	if !underRaceDetector {
		everywhere(t, out, "NoNewPrivs:", "NoNewPrivs: 1")
	}
}

func TestDropCapabilitiesReachesEveryThread(t *testing.T) {
	out, err := state(t, "drop")
	if err != nil {
		t.Fatal(out, err)
	}
	if !underRaceDetector {
		everywhere(t, out, "CapEff:", "CapEff: 0000000000000000")
		everywhere(t, out, "CapPrm:", "CapPrm: 0000000000000000")
	}
}

func TestBecomeUserGivesUpRootOnEveryThread(t *testing.T) {
	out, err := state(t, "become")
	if os.Geteuid() != 0 {
		if err == nil || !strings.Contains(out, "setting supplementary groups: operation not permitted") {
			t.Errorf("an ordinary user became another one: %v\n%s", err, out)
		}
		return
	}
	if err != nil {
		t.Fatal(out, err)
	}
	everywhere(t, out, "Uid:", "Uid: 12345 12345 12345 12345")
	everywhere(t, out, "Gid:", "Gid: 12346 12346 12346 12346")
	everywhere(t, out, "Groups:", "Groups: 12347")
	everywhere(t, out, "CapEff:", "CapEff: 0000000000000000")
	if !strings.Contains(out, "core 0 0\n") {
		t.Errorf("cores are on again:\n%s", out)
	}
	if !strings.Contains(out, "dumpable 0\n") {
		t.Errorf("the process can be traced by its new user:\n%s", out)
	}
}

func TestSwapStateSaysWhatLocks(t *testing.T) {
	if got := SwapState(true); got != "locked" {
		t.Errorf("%q", got)
	}
	if got := SwapState(false); got == "locked" || got == "" {
		t.Errorf("%q", got)
	}
}

func TestIgnoreTerminalOutlivesCtrlC(t *testing.T) {
	IgnoreTerminal()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Error(err)
		}
	}
}
