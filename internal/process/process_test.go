package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What Adopt does to a process cannot be undone, so it is tried in a process of its own: this
// binary, in the role that this variable names.
const roleVariable = "CONNFS_TEST_PROCESS"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "adopt":
		adopt()
	case "hold":
		hold()
	default:
		os.Exit(m.Run())
	}
}

// role runs this binary in a role, and fails the test with what it prints.
func role(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// adopt starts many programs, each of which leaves an orphan behind, and looks at what they
// answer, and at what is left.
func adopt() {
	Adopt()
	const programs = 50
	var all sync.WaitGroup
	for i := range programs {
		all.Go(func() {
			// The orphan ends after its parent, or before it.
			cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("sleep 0.0%d & exit %d", i%10, i))
			err := Run(cmd)
			var exit *exec.ExitError
			if i > 0 && (!errors.As(err, &exit) || exit.ExitCode() != i) || i == 0 && err != nil {
				fmt.Printf("program %d ended with %v\n", i, err)
			}
		})
	}
	all.Wait()
	awaitNoChildren()
}

// awaitNoChildren waits until no child is left, ended or not.
func awaitNoChildren() {
	for deadline := time.Now().Add(time.Minute); len(children()) > 0; {
		if time.Now().After(deadline) {
			fmt.Printf("these are left: %d\n", children())
			os.Exit(1)
		}
		time.Sleep(time.Millisecond)
	}
}

// hold awaits programs that this package does not know.
func hold() {
	Adopt()
	for range 50 {
		Hold(func() {
			cmd := exec.Command("/bin/sh", "-c", "sleep 0.01 & exit 7")
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 7 {
				fmt.Printf("the program ended with %v\n", err)
			}
		})
	}
	awaitNoChildren()
}

func TestOrphansAreReapedAndNoExitStatusIsTaken(t *testing.T) { role(t, "adopt") }

func TestProgramsOfOthersKeepTheirExitStatus(t *testing.T) { role(t, "hold") }

func TestOnlyConfinedOrphansAreEnded(t *testing.T) {
	for _, c := range []struct {
		status string
		own    int
		want   bool
	}{
		{"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\n", 1, true},
		{"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n", 1, false}, // the container's own
		{"NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t2\n", 1, false},
		{"NoNewPrivs:\t1\nSeccomp:\t2\n", 0, true}, // Linux before 5.9
		{"NoNewPrivs:\t1\nSeccomp:\t0\nSeccomp_filters:\t0\n", 0, false},
		{"", 0, false},
	} {
		if got := confined([]byte(c.status), c.own); got != c.want {
			t.Errorf("%q, own %d: %v", c.status, c.own, got)
		}
	}
}

func TestChildrenAreThoseOfEveryThread(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "1000")
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, pid := range children() {
		found = found || pid == cmd.Process.Pid
	}
	if !found {
		t.Errorf("%d is not among %d", cmd.Process.Pid, children())
	}
	if err := unix.Kill(cmd.Process.Pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := Wait(cmd); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))); err == nil {
		t.Error("it is still there")
	}
}
