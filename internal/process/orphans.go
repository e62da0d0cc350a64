package process

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Adopt makes this process the parent of what its children leave behind, and has every such
// process reaped when it ends. Those that are confined, as what a resolver child started is, are
// killed at once: their use has ended with that child. As PID 1 it reaps whatever ends up with it.
//
// It may be called more than once.
var Adopt = sync.OnceFunc(func() {
	// On a kernel that cannot do it, orphans go to PID 1.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for {
			reap()
			<-ended
		}
	}()
})

// EndOrphans waits until no confined process is left that a child left behind, and reports whether
// that came true within the time.
func EndOrphans(limit time.Duration) bool {
	pause := time.Millisecond
	for deadline := time.Now().Add(limit); reap(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// reap reaps every child that has ended and that this process did not start, kills those that are
// confined, and reports whether there are any of these. The children of what it kills come here in
// turn.
func reap() (left bool) {
	mu.Lock()
	defer mu.Unlock()
	if held > 0 {
		return false
	}
	own := ownFilters()
	for _, pid := range children() {
		if started[pid] != nil {
			continue
		}
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil || got == pid {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && confined(status, own) {
			left = true
			// Nobody reaps it but this function, so its number is still its own.
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return left
}

// children returns the process ids of the children of this process.
func children() []int {
	var all []int
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}

// confined reports whether a status of proc(5) shows a process that has more filters of system
// calls than this one, and can gain no rights: harden.Start makes such processes, and none can get
// rid of either. own is how many filters this process has.
func confined(status []byte, own int) bool {
	return field(status, "NoNewPrivs") == 1 && filters(status) > own
}

func ownFilters() int {
	status, _ := os.ReadFile("/proc/self/status")
	return filters(status)
}

// filters returns how many filters a status of proc(5) tells of. Before Linux 5.9 it only says
// that there are some: its "Seccomp" is 2 then.
func filters(status []byte) int {
	if n := field(status, "Seccomp_filters"); n >= 0 {
		return n
	}
	return max(field(status, "Seccomp"), 0)
}

// field returns a number in a status of proc(5), and -1 where there is no such field.
func field(status []byte, name string) int {
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				return n
			}
		}
	}
	return -1
}
