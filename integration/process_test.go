//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// processes returns the daemon's process and those of its children.
func (d *daemon) processes() (front int, children []int) {
	d.t.Helper()
	front = d.cmd.Process.Pid
	for _, pid := range processChildren(d.t, front) {
		// Until it executes its program, a new process is a copy of the front.
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(text), "\x00resolver\x00") {
			children = append(children, pid)
		}
	}
	return front, children
}

// status returns the fields of /proc/PID/status.
func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	return statusFile(t, fmt.Sprintf("/proc/%d/status", pid))
}

func statusFile(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

func TestProcessesAreClosedOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, keys string
		uid        string
	}{
		{"a uid without an account", fmt.Sprintf("user = %d", owner), fmt.Sprint(owner)},
		{"a user", `user = "nobody"`, "65534"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			secret := canary()
			s := newSite(t)
			must(t, os.Chown(s.home, 0, 0), os.Chmod(s.home, 0o755))
			s.configure("ttl = \"60s\"\n"+c.keys, grant(alice, "*"))
			d := s.serve("AIRFLOW_CONN_A=http://u:"+secret+"@h",
				"AIRFLOW__CORE__FERNET_KEY="+secret, "NOTIFY_SOCKET=/nowhere/notify")
			if got := as(t, alice).read(d.file("a")); got.failure() != "" ||
				!strings.Contains(string(got.Data), secret) {
				t.Fatalf("read: %q, %d bytes", got.failure(), len(got.Data))
			}
			front, children := d.processes()
			eventually(t, "there are a child and a spare", func() bool {
				front, children = d.processes()
				return len(children) == 2
			})

			if got := status(t, front)["Uid"]; !strings.HasPrefix(got, "0\t") {
				t.Errorf("the front runs as %s", got)
			}
			for _, pid := range append(children, front) {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				must(t, err)
				if strings.Contains(string(text), "AIRFLOW_") ||
					strings.Contains(string(text), secret) {
					t.Errorf("process %d has variables of Airflow's in its environment", pid)
				}
				if strings.Contains(string(text), "NOTIFY_SOCKET") != (pid == front) {
					t.Errorf("process %d (front: %v): NOTIFY_SOCKET in its environment: %v", pid,
						pid == front, strings.Contains(string(text), "NOTIFY_SOCKET"))
				}
				text, err = os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				must(t, err)
				if strings.Contains(string(text), secret) {
					t.Errorf("process %d has a secret in its command line", pid)
				}
				limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
				must(t, err)
				if !strings.Contains(
					strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0",
				) {
					t.Errorf("process %d may dump core:\n%s", pid, limits)
				}
			}
			for _, pid := range children {
				// A spare that was started just now has not become its user yet.
				want := strings.Join([]string{c.uid, c.uid, c.uid, c.uid}, "\t")
				eventually(t, fmt.Sprintf("child %d runs as %s", pid, c.uid), func() bool {
					return status(t, pid)["Uid"] == want
				})
				st := status(t, pid)
				wantNoRights(t, fmt.Sprintf("child %d", pid), st)
				for _, group := range strings.Fields(st["Groups"] + " " + st["Gid"]) {
					if group == "0" {
						t.Errorf("child %d is in the group root", pid)
					}
				}
				fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
				must(t, err)
				if len(fds) < 3 {
					t.Errorf("child %d: only %d descriptors", pid, len(fds))
				}
				for _, fd := range fds {
					if to, _ := os.Readlink(fd); strings.Contains(to, "fuse") ||
						strings.Contains(to, "memfd") || strings.Contains(to, "audit") {
						t.Errorf("child %d has %s open", pid, to)
					}
				}
				// Its own user cannot look into it, although the uid is the same.
				uid, err := strconv.Atoi(c.uid)
				must(t, err)
				same := as(t, uid)
				for _, file := range []string{"mem", "environ", "maps", "fd/0", "auxv"} {
					if got := same.do(
						request{Op: "read", Path: fmt.Sprintf("/proc/%d/%s", pid, file)},
					); got.Errno != "EACCES" &&
						got.Errno != "EPERM" {
						t.Errorf("uid %d reads %s of child %d: %q", uid, file, pid, got.failure())
					}
				}
			}
			if strings.Contains(d.log(), secret) {
				t.Error("a secret is in the log")
			}
		})
	}
}

// wantNoRights fails unless a status of /proc shows a process without capabilities that can
// gain none.
func wantNoRights(t *testing.T, who string, status map[string]string) {
	t.Helper()
	wantNone(t, who, status, "CapInh", "CapPrm", "CapEff", "CapAmb")
	if status["NoNewPrivs"] != "1" {
		t.Errorf("%s can gain rights: NoNewPrivs is %s", who, status["NoNewPrivs"])
	}
}

// wantNone fails unless these sets of capabilities are empty.
func wantNone(t *testing.T, who string, status map[string]string, sets ...string) {
	t.Helper()
	for _, name := range sets {
		if status[name] != "0000000000000000" {
			t.Errorf("%s: %s is %s", who, name, status[name])
		}
	}
}

func TestChildrenHaveNoRightsHoweverConnfsIsBuilt(t *testing.T) {
	t.Parallel()
	withCgo := filepath.Join(baseDir, "connfs-cgo")
	must(t, build("github.com/connfs/connfs/cmd/connfs", withCgo, true))
	for _, c := range []struct {
		name, binary string
		owner        int // of airflow_home, and the user of the children
	}{
		{"without cgo, as a user", connfsBinary, owner},
		{"without cgo, as root", connfsBinary, 0},
		{"with cgo, as a user", withCgo, owner},
		{"with cgo, as root", withCgo, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			secret := canary()
			s := newSite(t)
			s.binary = c.binary
			// A _cmd runs in the child that reads the configuration, and shows its rights.
			seen := filepath.Join(s.home, "status")
			cfg := filepath.Join(s.home, "airflow.cfg")
			text := fmt.Sprintf("[core]\nfernet_key_cmd = sh -c 'cat /proc/self/status > %s'\n",
				seen)
			must(t, os.WriteFile(cfg, []byte(text), 0o600))
			must(t, os.Chown(cfg, c.owner, c.owner), os.Chown(s.home, c.owner, c.owner))
			s.configure(fmt.Sprintf("user = %d\nttl = \"60s\"", c.owner), grant(alice, "*"))
			d := s.serve("AIRFLOW_CONN_A=http://u:" + secret + "@h")
			for range 2 { // from the start on, and after a reload
				wantNoRights(t, "the _cmd", statusFile(t, seen))
				wantUser(t, "the _cmd", statusFile(t, seen), c.owner)
				must(t, os.Remove(seen))
				got := as(t, alice).read(d.file("a"))
				if !strings.Contains(string(got.Data), secret) {
					t.Fatalf("read: %q, %d bytes", got.failure(), len(got.Data))
				}
				var children []int
				eventually(t, "there are a child and a spare", func() bool {
					_, children = d.processes()
					return len(children) >= 2
				})
				for _, pid := range children {
					wantClosedChild(t, pid, c.owner)
				}
				d.reload("connfs: reloaded")
			}
			if front := status(t, d.cmd.Process.Pid); !strings.HasPrefix(front["Uid"], "0\t") ||
				front["CapEff"] == "0000000000000000" {
				t.Errorf("the front runs as %s with the capabilities %s", front["Uid"],
					front["CapEff"])
			}
		})
	}
}

// wantUser fails unless a status of /proc shows a process of this user and group alone.
func wantUser(t *testing.T, who string, status map[string]string, uid int) {
	t.Helper()
	ids := strings.Repeat(fmt.Sprintf("%d\t", uid), 4)
	group := uid
	if uid != 0 {
		group = 65534 // an account that this machine does not know has no group
	}
	groups := strings.Repeat(fmt.Sprintf("%d\t", group), 4)
	if status["Uid"]+"\t" != ids || status["Gid"]+"\t" != groups {
		t.Errorf("%s runs as %q, groups %q, want uid %d, gid %d", who, status["Uid"], status["Gid"],
			uid, group)
	}
	for _, g := range strings.Fields(status["Groups"]) {
		if g == "0" && uid != 0 {
			t.Errorf("%s is in the group root", who)
		}
	}
}

// wantClosedChild fails unless every thread of a child runs as its user without rights, and
// nobody but root can look into it.
func wantClosedChild(t *testing.T, pid, uid int) {
	t.Helper()
	// A spare that was started just now has not become its user yet.
	eventually(t, fmt.Sprintf("child %d runs as uid %d", pid, uid), func() bool {
		return strings.HasPrefix(status(t, pid)["Uid"], fmt.Sprintf("%d\t", uid))
	})
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	for _, thread := range threads {
		path := fmt.Sprintf("/proc/%d/task/%s/status", pid, thread.Name())
		if _, err := os.Stat(path); err == nil { // else the thread has ended
			wantNoRights(t, path, statusFile(t, path))
			wantNone(t, path, statusFile(t, path), "CapBnd")
			wantUser(t, path, statusFile(t, path), uid)
		}
	}
	// A process that is not dumpable belongs to root, whoever runs it.
	var st syscall.Stat_t
	must(t, syscall.Stat(fmt.Sprintf("/proc/%d/environ", pid), &st))
	if st.Uid != 0 {
		t.Errorf("child %d can be traced by uid %d", pid, st.Uid)
	}
}

func TestChildrenEndWithTheFront(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	as(t, alice).reads(d.file("mine"), mine)
	_, children := d.processes()
	if len(children) == 0 {
		t.Fatal("no children")
	}
	must(t, d.cmd.Process.Kill())
	d.wait()
	for _, pid := range children {
		eventually(t, "the children are gone", func() bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(text), ") Z ")
		})
	}
}

func TestCrashLeavesNoCore(t *testing.T) {
	t.Parallel()
	secret := canary()
	s := newSite(t)
	s.configure(`ttl = "60s"`,
		s.environment("AIRFLOW_CONN_A=http://u:"+secret+"@h")+grant(alice, "*"))
	// A pattern of core files that names a directory leads there.
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	must(t, err)
	places := []string{s.dir}
	if dir := filepath.Dir(strings.TrimSpace(string(pattern))); filepath.IsAbs(dir) {
		places = append(places, dir)
	}
	before := files(t, places)

	command := s.command()
	wrapped := exec.Command("sh",
		append([]string{"-c", `ulimit -c unlimited && exec "$@"`, "sh"}, command.Args...)...)
	wrapped.Dir, wrapped.Env = s.dir, command.Env
	d := s.launch(wrapped)
	if got := as(t, alice).read(d.file("a")); !strings.Contains(string(got.Data), secret) {
		t.Fatalf("read: %q, %d bytes", got.failure(), len(got.Data))
	}
	front, children := d.processes()
	for _, pid := range append(children, front) {
		must(t, syscall.Kill(pid, syscall.SIGABRT))
	}
	d.wait()
	ws := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.CoreDump() || d.cmd.ProcessState.Success() {
		t.Errorf("the daemon ended so: %v", d.cmd.ProcessState)
	}
	for name := range files(t, places) {
		if !before[name] && strings.Contains(filepath.Base(name), "core") {
			t.Errorf("a core file: %s", name)
		}
	}
	if strings.Contains(d.log(), secret) {
		t.Error("the secret is in what the crash printed")
	}
}

func files(t *testing.T, dirs []string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			names[filepath.Join(dir, e.Name())] = true
		}
	}
	return names
}
