package harden

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/internal/process"
)

// What this package does to a process cannot be undone, so each thing is tried in a process of
// its own: this binary, which does what its role says and prints its state.
const roleVariable = "CONNFS_TEST_HARDEN"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	threads()
	var err error
	switch role {
	case "report":
	case "try":
		try(os.Getenv(placeVariable))
		return
	case "process":
		err = Process()
	case "start":
		err = start(nil, Confinement{})
	case "start another user's":
		err = start(someone, Confinement{})
	case "start with capabilities":
		err = start(nil, Confinement{KeepCapabilities: true})
	case "drop":
		err = DropCapabilities()
	case "confined":
		err = start(nil, Confinement{}, "try")
	case "confined, writes":
		err = start(nil, Confinement{Writable: []string{os.Getenv(placeVariable)}}, "try")
	case "become":
		if err = Process(); err == nil {
			err = BecomeUser(someone.Uid, someone.Gid, someone.Groups)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	report()
}

var someone = &syscall.Credential{Uid: 12345, Gid: 12346, Groups: []uint32{12347}}

// parentMark stands between what a started process prints and what the one that started it does.
const parentMark = "--- the parent:\n"

// starts is how many processes start starts.
const starts = 4

// start starts this binary several times in a role, "report" unless it is named, the last time with
// its output.
func start(user *syscall.Credential, confine Confinement, role ...string) error {
	if err := Process(); err != nil {
		return err
	}
	for i := range starts {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = environment(append(role, "report")[0])
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
		if i == starts-1 {
			cmd.Stdout = os.Stdout
		}
		if err := errors.Join(Start(cmd, confine), process.Wait(cmd)); err != nil {
			return err
		}
	}
	fmt.Print(parentMark)
	// The threads that forked have told that they have, and end.
	for rights() > 1 {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// rights returns how many different rights the threads of this process have.
func rights() int {
	kinds := make(map[string]bool)
	for _, status := range statuses() {
		kinds[strings.Join(status, " ")] = true
	}
	return len(kinds)
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
	fmt.Println("check:", CheckRights())
	for _, status := range statuses() {
		for _, line := range status {
			fmt.Println(line)
		}
	}
}

// statuses returns the lines of /proc that tell the rights of each thread.
func statuses() [][]string {
	var all [][]string
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			continue
		}
		var lines []string
		for line := range strings.Lines(string(status)) {
			key, _, _ := strings.Cut(line, ":")
			switch key {
			case "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
				"Uid", "Gid", "Groups":
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
		}
		all = append(all, lines)
	}
	return all
}

// environment is that of this binary in a role. With the race detector it would wait for a
// second before it exits.
func environment(role string) []string {
	return append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
}

// state runs this binary in a role and returns what it printed.
func state(t *testing.T, role string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = environment(role)
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

const noCapability = " 0000000000000000"

func TestStartedProcessesHaveNoRights(t *testing.T) {
	for _, c := range []struct {
		role     string
		needs    bool // root
		want     []string
		differs  []string // keys of which the parent keeps its own
		capables bool
	}{
		{"start", false, nil, []string{"CapPrm:", "CapEff:"}, false},
		{"start another user's", true, []string{
			"Uid: 12345 12345 12345 12345", "Gid: 12346 12346 12346 12346", "Groups: 12347",
		}, []string{"CapPrm:", "CapEff:", "Uid:", "Gid:"}, false},
		{"start with capabilities", true, nil, nil, true},
	} {
		t.Run(c.role, func(t *testing.T) {
			own := first(strings.Join(statuses()[0], "\n"), "NoNewPrivs:")
			out, err := state(t, c.role)
			if c.needs && os.Geteuid() != 0 {
				if err == nil && !c.capables {
					t.Errorf("an ordinary user started a process of another one:\n%s", out)
				}
				return
			}
			if err != nil {
				t.Fatal(out, err)
			}
			child, parent, _ := strings.Cut(out, parentMark)
			everywhere(t, child, "NoNewPrivs:", "NoNewPrivs: 1")
			everywhere(t, child, "CapInh:", "CapInh:"+noCapability)
			for _, key := range []string{"CapPrm:", "CapEff:", "CapAmb:", "CapBnd:"} {
				switch {
				case c.capables && key != "CapAmb:":
					caps, err := capabilities()
					if err != nil {
						t.Fatal(err)
					}
					everywhere(t, child, key, fmt.Sprintf("%s %016x", key, caps.forReading()))
				case key != "CapBnd:" || os.Geteuid() == 0: // only root can empty it
					everywhere(t, child, key, key+noCapability)
				}
			}
			if passed := first(child, "check:") == "check: <nil>"; passed == c.capables {
				t.Errorf("capabilities were kept: %v, %s", c.capables, first(child, "check:"))
			}
			for _, line := range c.want {
				everywhere(t, child, line[:strings.Index(line, " ")], line)
			}
			// No thread of the parent lost anything, and the parent is as closed off as before.
			everywhere(t, parent, "NoNewPrivs:", own)
			for _, key := range c.differs {
				if os.Geteuid() == 0 && first(parent, key) == first(child, key) {
					t.Errorf("the parent has %s", first(parent, key))
				}
			}
			if !strings.Contains(parent, "core 0 0\ndumpable 0\n") {
				t.Errorf("the parent is not closed off any more:\n%s", parent)
			}
		})
	}
}

// first returns the first line that begins with key.
func first(out, key string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, key) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func TestDropCapabilitiesReachesEveryThreadOrSaysThatItCannot(t *testing.T) {
	out, err := state(t, "drop")
	if withCgo {
		if err == nil || !strings.Contains(out, ErrCgo.Error()) {
			t.Errorf("with cgo: %v\n%s", err, out)
		}
		return
	}
	if err != nil {
		t.Fatal(out, err)
	}
	for _, key := range []string{"CapEff:", "CapPrm:", "CapInh:"} {
		everywhere(t, out, key, key+noCapability)
	}
}

func TestBecomeUserGivesUpRootOnEveryThread(t *testing.T) {
	out, err := state(t, "become")
	if os.Geteuid() != 0 {
		if err == nil ||
			!strings.Contains(out, "setting supplementary groups: operation not permitted") {
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
	everywhere(t, out, "CapEff:", "CapEff:"+noCapability)
	everywhere(t, out, "CapPrm:", "CapPrm:"+noCapability)
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
	for _, s := range []syscall.Signal{
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE,
	} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Error(err)
		}
	}
}
