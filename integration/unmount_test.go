//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// alone returns a site with one connection, of alice, and what its file holds. Nothing of it is
// mounted yet.
func alone(t *testing.T) (s *site, text string) {
	t.Helper()
	s = newSite(t)
	secret := canary()
	s.configure("", s.environment("AIRFLOW_CONN_A=http://u:"+secret+"@h")+grant(alice, "*"))
	return s, strings.NewReplacer(`"login":null`, `"login":"u"`, `"schema":null`, `"schema":""`).
		Replace(fileText("http", "h", secret, ""))
}

// kill ends the daemon as a crash does.
func (d *daemon) kill() {
	d.t.Helper()
	must(d.t, d.cmd.Process.Kill())
	d.wait()
}

// cover mounts a tmpfs with a file on path, which t unmounts at the end, and returns the file.
func cover(t *testing.T, path string) (file string) {
	t.Helper()
	must(t, unix.Mount("cover", path, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	file = filepath.Join(path, "somebody-else's")
	must(t, os.WriteFile(file, []byte("kept"), 0o644))
	return file
}

func wantKept(t *testing.T, file string) {
	t.Helper()
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("what somebody else mounted is not what it was: %q, %v", text, err)
	}
}

func TestCrashedMountBelowALinkIsReplaced(t *testing.T) {
	t.Parallel()
	s, text := alone(t)
	must(t, os.Mkdir(s.dir+"/run", 0o755), os.Symlink("run", s.dir+"/var-run"))
	s.mount = s.dir + "/var-run/conn"
	for range 2 {
		d := s.serve()
		as(t, alice).reads(s.file("a"), text)
		d.kill()
		if !mounted(t, s.dir+"/run/conn") {
			t.Fatal("a crash leaves no mount")
		}
	}
	d := s.serve()
	as(t, alice).reads(s.file("a"), text)
	if code := d.stop(); code != 0 || mounted(t, s.dir+"/run/conn") {
		t.Errorf("exit code %d, still mounted: %v", code, mounted(t, s.dir+"/run/conn"))
	}
}

func TestWhatSomebodyMountedOnTopStays(t *testing.T) {
	t.Parallel()
	s, text := alone(t)
	d := s.serve()
	file := cover(t, s.mount)
	const says = ": not unmounted: somebody mounted a file system (tmpfs) on it"
	if code := d.stop(); code != 8 || !strings.Contains(d.log(), s.mount+says) {
		t.Errorf("exit code %d:\n%s", code, d.log())
	}
	wantKept(t, file)

	// Once it is gone, the next start takes the dead mount below it away.
	must(t, unix.Unmount(s.mount, 0))
	again := s.serve()
	as(t, alice).reads(s.file("a"), text)
	if code := again.stop(); code != 0 || mounted(t, s.mount) {
		t.Errorf("exit code %d, still mounted: %v", code, mounted(t, s.mount))
	}
}

func TestCrashedMountBelowAnotherMountStays(t *testing.T) {
	t.Parallel()
	s, _ := alone(t)
	d := s.serve()
	// Somebody mounts on a file of ours.
	theirs := filepath.Join(s.dir, "theirs")
	must(t, os.WriteFile(theirs, []byte("kept"), 0o644))
	bind := s.file("a")
	must(t, unix.Mount(theirs, bind, "", unix.MS_BIND, ""))
	d.kill()
	code, printed := s.refused(s.command())
	if code != 8 || !strings.Contains(printed, "not unmounted: somebody mounted a file system") ||
		!strings.Contains(printed, bind) {
		t.Errorf("exit code %d: %s", code, printed)
	}
	wantKept(t, theirs)
	if !mounted(t, bind) {
		t.Error("what somebody mounted is unmounted")
	}
	must(t, unix.Unmount(bind, unix.UMOUNT_NOFOLLOW))
}

func TestMountHiddenBelowItsParentIsUnmounted(t *testing.T) {
	t.Parallel()
	s, _ := alone(t)
	must(t, os.Mkdir(s.dir+"/parent", 0o755))
	s.mount = s.dir + "/parent/conn"
	d := s.serve()
	file := cover(t, s.dir+"/parent")
	if code := d.stop(); code != 0 || mounted(t, s.mount) {
		t.Errorf("exit code %d, still mounted: %v\n%s", code, mounted(t, s.mount), d.log())
	}
	wantKept(t, file)
}

func TestOldDaemonLeavesTheMountOfTheNewOne(t *testing.T) {
	t.Parallel()
	s, text := alone(t)
	old := s.serve()
	a := as(t, alice)
	a.do(request{Op: "open", Path: s.file("a")}) // this keeps the old daemon alive
	must(t, unix.Unmount(s.mount, unix.MNT_DETACH))
	again := s.serve()
	b := as(t, alice)
	b.reads(s.file("a"), text)
	if code := old.stop(); code != 0 ||
		!strings.Contains(old.log(), "somebody unmounted it already, while files were open") {
		t.Errorf("the old daemon: exit code %d\n%s", code, old.log())
	}
	b.reads(s.file("a"), text)
	if code := again.stop(); code != 0 || mounted(t, s.mount) {
		t.Errorf("exit code %d, still mounted: %v", code, mounted(t, s.mount))
	}
}

func TestStoppedDaemonHoldsUpNoCommand(t *testing.T) {
	t.Parallel()
	s, text := alone(t)
	d := s.serve()
	must(t, d.cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { d.cmd.Process.Signal(syscall.SIGCONT) }) // runs before its end
	noAnswer := "another connfs is mounted there and gives no answer within 10s: it may be stopped"
	code, printed := s.refused(s.command())
	if code != 8 || !strings.Contains(printed, s.mount+": "+noAnswer) {
		t.Errorf("mount: exit code %d: %s", code, printed)
	}
	below := *s
	below.mount = s.mount + "/below/conn"
	code, printed = below.refused(below.command())
	if code != 8 || !strings.Contains(printed, "does not answer: no answer within 10s") {
		t.Errorf("mount below it: exit code %d: %s", code, printed)
	}
	config, err := os.ReadFile(s.config)
	must(t, err)
	must(t, os.WriteFile(s.config,
		[]byte(string(config)+fmt.Sprintf("[[mount]]\npath = %q\n", s.mount)), 0o600))
	code, printed = s.refused(exec.Command(s.binary, "check", "--config", s.config))
	if code != 1 || !strings.Contains(printed, "fail  mountpoint: "+s.mount+": "+noAnswer) {
		t.Errorf("check: exit code %d: %s", code, printed)
	}
	must(t, d.cmd.Process.Signal(syscall.SIGCONT))
	as(t, alice).reads(s.file("a"), text)
	_, printed = s.refused(exec.Command(s.binary, "check", "--config", s.config))
	if !strings.Contains(printed, "ok    mountpoint: "+s.mount+": a connfs serves there") {
		t.Errorf("check, of a daemon that serves: %s", printed)
	}
	d.kill()
	_, printed = s.refused(exec.Command(s.binary, "check", "--config", s.config))
	if !strings.Contains(printed, "warn  mountpoint: "+s.mount+": a connfs that is gone left its") {
		t.Errorf("check, of a mount without a daemon: %s", printed)
	}
}

func TestMountIsUnmountedWhereItIsNow(t *testing.T) {
	t.Parallel()
	s, text := alone(t)
	must(t, os.Mkdir(s.dir+"/before", 0o755))
	s.mount = s.dir + "/before/conn"
	d := s.serve()
	must(t, os.Rename(s.dir+"/before", s.dir+"/after"))
	// What has taken its path is not ours.
	must(t, os.MkdirAll(s.mount, 0o755))
	file := cover(t, s.mount)
	as(t, alice).reads(s.dir+"/after/conn/a.json", text)
	if code := d.stop(); code != 0 || mounted(t, s.dir+"/after/conn") {
		t.Errorf("exit code %d, still mounted: %v\n%s", code, mounted(t, s.dir+"/after/conn"),
			d.log())
	}
	wantKept(t, file)
}

func TestBindsThatStayAreNamed(t *testing.T) {
	t.Parallel()
	s, _ := alone(t)
	d := s.serve()
	bind := s.dir + "/bind"
	must(t, os.Mkdir(bind, 0o755), unix.Mount(s.mount, bind, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(bind, unix.MNT_DETACH) })
	if code := d.stop(); code != 0 || mounted(t, s.mount) ||
		!strings.Contains(d.log(), "bind="+bind) {
		t.Errorf("exit code %d, still mounted: %v\n%s", code, mounted(t, s.mount), d.log())
	}
}

func TestPrivateMountNamespaceIsSaid(t *testing.T) {
	t.Parallel()
	const own = "only processes in connfs's own mount namespace see the mount"
	unit := []string{"INVOCATION_ID=1", "NOTIFY_SOCKET=/nowhere/notify"}
	for _, c := range []struct {
		name    string
		unshare []string
		env     []string
		refused bool // with exit code 8
		says    string
	}{
		// What systemd makes for PrivateTmp= and its like: mounts come in, and none goes out.
		{"in a unit", []string{"--mount", "--propagation", "slave"}, unit, true,
			"nobody outside of this unit would see the mount"},
		{"by hand", []string{"--mount", "--propagation", "slave"}, nil, false, own},
		{"in a container", []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc"},
			unit, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, _ := alone(t)
			cmd := s.command()
			cmd.Args = append(append(append([]string{"unshare"}, c.unshare...), "--"), cmd.Args...)
			cmd.Path = "/usr/bin/unshare"
			cmd.Env = append(cmd.Env, c.env...)
			if c.refused {
				code, printed := s.refused(cmd)
				if code != 8 || !strings.Contains(printed, s.mount+": "+c.says) ||
					!strings.Contains(printed, "PrivateTmp=") ||
					strings.Contains(printed, "connfs: ready") {
					t.Errorf("exit code %d: %s", code, printed)
				}
				return
			}
			d := s.launch(cmd)
			if got := strings.Contains(d.log(), own); got != (c.says == own) {
				t.Errorf("the log warns: %v:\n%s", got, d.log())
			}
			d.kill() // unshare(1) passes no SIGTERM on to its child
		})
	}
}

func TestMountThatLeavesItsNamespaceIsServed(t *testing.T) {
	t.Parallel()
	s, text := alone(t)
	shared := s.dir + "/shared"
	must(t, os.Mkdir(shared, 0o755), unix.Mount("shared", shared, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { unix.Unmount(shared, unix.MNT_DETACH) })
	must(t, unix.Mount("", shared, "", unix.MS_SHARED, ""))
	s.mount = shared + "/conn"
	cmd := s.command()
	cmd.Args = append([]string{"unshare", "--mount", "--propagation", "unchanged", "--"},
		cmd.Args...)
	cmd.Path = "/usr/bin/unshare"
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=/nowhere/notify")
	d := s.launch(cmd)
	as(t, alice).reads(s.file("a"), text)
	if strings.Contains(d.log(), "mount namespace") {
		t.Errorf("the log:\n%s", d.log())
	}
	if code := d.stop(); code != 0 || mounted(t, s.mount) {
		t.Errorf("exit code %d, still mounted: %v", code, mounted(t, s.mount))
	}
}

// mounts returns what the helper's mount table says of mounts in dir.
func (r *reader) mounts(dir string) string {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", r.cmd.Process.Pid))
	must(r.t, err)
	var found strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " "+dir+"/") {
			found.WriteString(line)
		}
	}
	return found.String()
}

func TestOrdinaryUsersMountIsUnmountedAndNothingElse(t *testing.T) {
	t.Parallel()
	t.Run("where it is now", func(t *testing.T) {
		t.Parallel()
		s, cmd := hers(t, "before/conn")
		d := s.launch(cmd)
		r := d.inside(alice)
		must(t, os.Rename(s.dir+"/hers/before", s.dir+"/hers/after"))
		if !strings.Contains(r.mounts(s.dir+"/hers"), "/hers/after/conn ") {
			t.Fatalf("it is not there:\n%s", r.mounts(s.dir+"/hers"))
		}
		if code := d.stop(); code != 0 || strings.Contains(r.mounts(s.dir+"/hers"), "fuse.connfs") {
			t.Errorf("exit code %d:\n%s\n%s", code, d.log(), r.mounts(s.dir+"/hers"))
		}
	})
	t.Run("below another", func(t *testing.T) {
		t.Parallel()
		s, cmd := hers(t, "conn")
		d := s.launch(cmd)
		r := d.inside(alice)
		must(t, inside(r.cmd.Process.Pid,
			exec.Command("mount", "-t", "tmpfs", "cover", s.mount)).Run())
		if code := d.stop(); code != 8 || !strings.Contains(d.log(), "not unmounted: somebody") ||
			!strings.Contains(r.mounts(s.dir+"/hers"), " - tmpfs cover ") {
			t.Errorf("exit code %d:\n%s\n%s", code, d.log(), r.mounts(s.dir+"/hers"))
		}
	})
	t.Run("of a crash, below a link", func(t *testing.T) {
		t.Parallel()
		s, cmd := hers(t, "run/conn")
		must(t, os.Symlink("run", s.dir+"/hers/link"))
		s.mount = s.dir + "/hers/link/conn"
		cmd.Args[len(cmd.Args)-1] = s.mount
		d := s.launch(cmd)
		r := d.inside(alice)
		d.kill()
		again := s.launch(inside(r.cmd.Process.Pid,
			asAlice(connfsBinary, "mount", "--airflow-home", s.home, s.mount)))
		if n := strings.Count(r.mounts(s.dir+"/hers"), "fuse.connfs"); n != 1 {
			t.Errorf("%d mounts:\n%s", n, r.mounts(s.dir+"/hers"))
		}
		if code := again.stop(); code != 0 ||
			strings.Contains(r.mounts(s.dir+"/hers"), "fuse.connfs") {
			t.Errorf("exit code %d:\n%s\n%s", code, again.log(), r.mounts(s.dir+"/hers"))
		}
	})
}
