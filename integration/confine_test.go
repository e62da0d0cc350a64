//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/resolve/resolvetest"
)

// hostile is a plugin that does to the machine what it can, and answers with what came of it.
const hostile = `#!/usr/bin/python3
import ctypes, errno, json, os, sys

libc = ctypes.CDLL(None, use_errno=True)

def outcome(do):
    try:
        do()
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def write(path):
    with open(path, "w") as f:
        f.write("x")

def status(*names):
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return " ".join(fields[name].strip() for name in names)

def daemon():
    """Starts a process in a session of its own, whose parents are gone, and returns its number
    on the machine."""
    r, w = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(w, os.readlink("/proc/self").encode())
            os.close(0); os.close(1); os.close(2); os.close(w)
            while True:
                libc.pause()
        os._exit(0)
    os.waitpid(first, 0)
    return os.read(r, 100).decode()

for line in sys.stdin:
    q = json.loads(line)
    a = {"n": q["n"]}
    if q["op"] == "hello":
        a.update(version=1, can=[])
        print("a word from the plugin", file=sys.stderr, flush=True)
    else:
        a.update(id=q["id"], result="found", fields={"conn_type": "http", "extra": {
            "pid": os.readlink("/proc/self"),
            "daemon": daemon(),
            "write": outcome(lambda: write(sys.argv[1])),
            "write where it may": outcome(lambda: write(sys.argv[2])),
            "chmod": outcome(lambda: os.chmod(sys.argv[3], 0o666)),
            "ptrace": outcome(lambda: call("ptrace", 0, 0, 0, 0)),
            "unshare": outcome(lambda: call("unshare", 0x10000000)),
            "mount": outcome(lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None)),
            "status": status("NoNewPrivs", "Seccomp", "CapBnd"),
            "kill the front": outcome(lambda: os.kill(int(open(sys.argv[4]).read()), 0)),
        }})
    print(json.dumps(a), flush=True)
`

// done is what hostile answers.
type done map[string]string

// pid returns a number among the answers.
func (d done) pid(t *testing.T, name string) int {
	t.Helper()
	pid, err := strconv.Atoi(d[name])
	must(t, err)
	return pid
}

// attack has the plugin do what it can.
func (r *reader) attack(path string) done {
	r.t.Helper()
	got := r.read(path)
	var connection struct{ Extra done }
	if got.failure() != "" {
		r.t.Fatalf("read: %s", got.failure())
	}
	must(r.t, json.Unmarshal(got.Data, &connection))
	return connection.Extra
}

// hostileSite is a site whose backend is hostile, with children of this uid and epochs of ttl.
// Until tellPID, it takes this process for the front.
func hostileSite(t *testing.T, uid int, ttl string, writable bool) *site {
	t.Helper()
	s := newSite(t)
	program := filepath.Join(s.dir, "plugin")
	resolvetest.WriteProgram(t, program, []byte(hostile))
	open := filepath.Join(s.home, "open")
	untouched := filepath.Join(s.home, "untouched")
	front := filepath.Join(s.dir, "front")
	must(t, os.Mkdir(open, 0o700), os.WriteFile(untouched, nil, 0o600),
		os.WriteFile(front, []byte(strconv.Itoa(os.Getpid())), 0o644))
	for _, path := range []string{s.home, open, untouched} {
		must(t, os.Chown(path, uid, uid))
	}
	keys := fmt.Sprintf("ttl = %q\n", ttl)
	if writable {
		keys += fmt.Sprintf("writable = [%q]\n", open)
	}
	s.configure(keys, secretsTable(t, "exec", map[string]any{"command": []any{
		program, filepath.Join(s.home, "new"), filepath.Join(open, "new"), untouched, front,
	}})+grant(alice, "*"))
	return s
}

// tellPID tells the plugin which process the front is.
func (d *daemon) tellPID() {
	d.t.Helper()
	must(d.t, os.WriteFile(filepath.Join(d.dir, "front"),
		[]byte(strconv.Itoa(d.cmd.Process.Pid)), 0o644))
}

func TestAPluginCanHarmNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		writable     bool
		where, modes string
	}{
		{"nothing is writable", false, "EACCES", "EPERM"},
		{"a directory is writable", true, "done", "done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := hostileSite(t, owner, "60s", c.writable)
			d := s.serve()
			d.tellPID()
			got := as(t, alice).attack(d.file("a"))
			for name, want := range map[string]string{
				"write": "EACCES", "write where it may": c.where, "chmod": c.modes,
				"ptrace": "EPERM", "unshare": "EPERM", "mount": "EPERM", "kill the front": "ESRCH",
				"status": "1 2 0000000000000000",
			} {
				if got[name] != want {
					t.Errorf("%s: %s, want %s", name, got[name], want)
				}
			}
			_, children := d.processes()
			for _, pid := range children {
				st := status(t, pid)
				wantNoRights(t, "a child", st)
				wantNone(t, "a child", st, "CapBnd")
				if st["Seccomp"] != "2" {
					t.Errorf("child %d: Seccomp is %s", pid, st["Seccomp"])
				}
				wantLimits(t, pid, c.writable)
				wantOwnOutput(t, pid)
			}
			d.await("a word from the plugin")
			if !strings.Contains(d.log(), `a resolver child says pid=`) {
				t.Errorf("the log does not mark what a child says:\n%s", d.log())
			}
		})
	}
}

// wantLimits fails unless a child has the limits of children.
func wantLimits(t *testing.T, pid int, writes bool) {
	t.Helper()
	var text []byte
	eventually(t, "the child has started up", func() bool {
		var err error
		text, err = os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		must(t, err)
		return strings.Contains(string(text), " 4096 ")
	})
	limits := strings.Join(strings.Fields(string(text)), " ")
	for _, want := range []string{
		"Max data size 2147483648 2147483648 bytes", "Max open files 4096 4096 files",
		"Max core file size 0 0 bytes",
	} {
		if !strings.Contains(limits, want) {
			t.Errorf("child %d has not the limit %q:\n%s", pid, want, text)
		}
	}
	if got := strings.Contains(limits, "Max file size 0 0 bytes"); got == writes {
		t.Errorf("child %d: files of size 0 only: %v", pid, got)
	}
}

// wantOwnOutput fails unless all output of a child goes to pipes.
func wantOwnOutput(t *testing.T, pid int) {
	t.Helper()
	for fd := range 3 {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		must(t, err)
		if !strings.HasPrefix(to, "pipe:") {
			t.Errorf("descriptor %d of child %d is %s", fd, pid, to)
		}
	}
}

// running reports whether a process is there, and has not ended.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func TestWhatAChildStartedDiesWithIt(t *testing.T) {
	t.Parallel()
	t.Run("at the end of its epoch", func(t *testing.T) {
		t.Parallel()
		d := hostileSite(t, owner, "1s", false).serve()
		got := as(t, alice).attack(d.file("a"))
		for _, name := range []string{"pid", "daemon"} {
			pid := got.pid(t, name)
			eventually(t, name+" is gone", func() bool { return !running(pid) })
		}
	})
	t.Run("with the front", func(t *testing.T) {
		t.Parallel()
		d := hostileSite(t, owner, "1s", false).serve()
		got := as(t, alice).attack(d.file("a"))
		must(t, d.cmd.Process.Kill())
		d.wait()
		for _, name := range []string{"pid", "daemon"} {
			pid := got.pid(t, name)
			eventually(t, name+" is gone", func() bool { return !running(pid) })
		}
	})
	t.Run("of an ordinary user", func(t *testing.T) {
		t.Parallel()
		s := hostileSite(t, alice, "1s", false)
		s.audit = filepath.Join(s.home, "audit.jsonl")
		text, err := os.ReadFile(s.config)
		must(t, err, os.WriteFile(s.config, []byte(strings.Replace(string(text),
			filepath.Join(s.dir, "audit.jsonl"), s.audit, 1)), 0o600),
			os.Chown(s.config, alice, alice),
			os.Mkdir(s.mount, 0o755), os.Chown(s.mount, alice, alice))
		script := fmt.Sprintf("%s; echo user_allow_other >%[2]s/fuse.conf; "+
			"mount --bind %[2]s/fuse.conf /etc/fuse.conf", s.ordinary(), s.dir)
		d := s.launch(inNamespace(script,
			asAlice(connfsBinary, "mount", "--config", s.config, s.mount)))
		d.tellPID()
		got := aliceInside(t, d.cmd.Process.Pid).attack(d.file("a"))
		for name, want := range map[string]string{
			"write": "EACCES", "chmod": "EPERM", "ptrace": "EPERM", "unshare": "EPERM",
			"kill the front": "EPERM",
		} {
			if got[name] != want {
				t.Errorf("%s: %s, want %s", name, got[name], want)
			}
		}
		if !strings.HasPrefix(got["status"], "1 2 ") {
			t.Errorf("the plugin's no_new_privs, seccomp and bounding set are %s", got["status"])
		}
		for _, name := range []string{"pid", "daemon"} {
			pid := got.pid(t, name)
			eventually(t, name+" is gone", func() bool { return !running(pid) })
		}
		wantNoZombies(t, d.cmd.Process.Pid)
	})
}

// aliceInside starts a helper under alice in the mount namespace of a process.
func aliceInside(t *testing.T, pid int) *reader {
	t.Helper()
	uid := strconv.Itoa(alice)
	return startReader(t, alice, exec.Command("nsenter", "-t", strconv.Itoa(pid), "-m",
		"setpriv", "--reuid="+uid, "--regid="+uid, "--clear-groups", helperBinary))
}

// processChildren returns the children of a process, those that have ended and are not reaped too.
func processChildren(t *testing.T, pid int) []int {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	var all []int
	for _, path := range paths {
		text, _ := os.ReadFile(path) // the thread may have ended
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			must(t, err)
			all = append(all, child)
		}
	}
	slices.Sort(all)
	return all
}

// wantNoZombies fails unless every child of a process that has ended is reaped.
func wantNoZombies(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "no zombie is left", func() bool {
		return !slices.ContainsFunc(processChildren(t, pid), func(child int) bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
			return err == nil && strings.Contains(string(text), ") Z ")
		})
	})
}

func TestAsPID1ConnfsReapsWhatEndsUpWithIt(t *testing.T) {
	t.Parallel()
	s := hostileSite(t, owner, "1s", false)
	cmd := s.command()
	wrapped := exec.Command("unshare", append([]string{
		"--pid", "--fork", "--kill-child", "--mount-proc",
	}, cmd.Args...)...)
	wrapped.Dir, wrapped.Env = cmd.Dir, cmd.Env
	d := s.launch(wrapped)
	var front int
	for _, pid := range processChildren(t, d.cmd.Process.Pid) {
		front = pid
	}
	t.Cleanup(func() { unix.Kill(front, unix.SIGTERM) }) // which unshare does not pass on
	if fields := strings.Fields(status(t, front)["NSpid"]); fields[len(fields)-1] != "1" {
		t.Fatalf("connfs is not PID 1: %q", fields)
	}
	// Every epoch, its program is left behind. A command in the container leaves an orphan.
	a := aliceInside(t, front)
	for i := range 3 {
		got := a.attack(d.file(fmt.Sprint("a", i)))
		pid := got.pid(t, "pid") // as this namespace's /proc has it: of no use outside
		if pid == 0 {
			t.Error("the plugin has no number")
		}
		must(t, exec.Command("nsenter", "-t", strconv.Itoa(front), "-p", "-m", "sh", "-c",
			"sleep 0.2 & exit 0").Run())
		// The child that answered ends with its epoch, and leaves its program behind.
		children := processChildren(t, front)
		eventually(t, "an epoch is over", func() bool {
			return !slices.Equal(processChildren(t, front), children)
		})
	}
	wantNoZombies(t, front)
	if !running(front) {
		t.Error("connfs has ended")
	}
	must(t, unix.Kill(front, unix.SIGTERM))
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTheLogSaysWhetherChildrenAreLocked(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	as(t, alice).reads(d.file("mine"), mine)
	_, children := d.processes()
	locked := false
	for _, pid := range children {
		locked = locked || status(t, pid)["VmLck"] != "0 kB"
	}
	said := strings.Contains(d.log(), "memory of the resolver children is kept from swap: locked")
	if said != locked {
		t.Errorf("the log says that children are locked: %v, and they are: %v\n%s", said, locked,
			d.log())
	}
	out, _, _ := output(t, 0, connfsBinary, "check", "--config", d.config)
	said = strings.Contains(string(out),
		"memory of the resolver children cannot be swapped out: locked")
	if said != locked {
		t.Errorf("check says that children are locked: %v, and they are: %v\n%s", said, locked, out)
	}
}
