//go:build integration

package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
)

// inNamespace returns a command that runs script, and then the daemon's command line
// in its place, in a mount namespace of its own.
func inNamespace(script string, cmd *exec.Cmd) *exec.Cmd {
	args := append(
		[]string{"--mount", "--propagation", "private", "sh", "-ec", script + `; exec "$@"`, "sh"},
		cmd.Args...,
	)
	wrapped := exec.Command("unshare", args...)
	wrapped.Dir, wrapped.Env = cmd.Dir, cmd.Env
	return wrapped
}

// ordinary returns the script that gives alice an account and a device that she may
// open, in a mount namespace of its own.
func (s *site) ordinary() string {
	return fmt.Sprintf(`test -e %[1]s/fuse || mknod -m 666 %[1]s/fuse c 10 229; mount --bind %[1]s/fuse /dev/fuse
cp /etc/passwd %[1]s/passwd && echo 'connfs-it:x:%[2]d:%[2]d::%[1]s:/bin/sh' >>%[1]s/passwd && mount --bind %[1]s/passwd /etc/passwd`, s.dir, alice)
}

// asAlice returns a command that drops to alice first.
func asAlice(args ...string) *exec.Cmd {
	uid := strconv.Itoa(alice)
	cmd := exec.Command("setpriv",
		append([]string{"--reuid=" + uid, "--regid=" + uid, "--clear-groups"}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// hers returns a site of alice's with a metastore, whose mountpoint is at path below her
// directory, and the command that mounts there as alice in a mount namespace of its own.
func hers(t *testing.T, path string) (*site, *exec.Cmd) {
	t.Helper()
	s := newSite(t)
	s.copyMetastore("2.10")
	dir := s.dir + "/hers"
	s.mount = filepath.Join(dir, path)
	must(t, os.MkdirAll(s.mount, 0o755), filepath.WalkDir(dir,
		func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, alice, alice))
		}))
	for _, path := range []string{s.home, s.home + "/airflow.cfg", s.home + "/airflow.db"} {
		must(t, os.Chown(path, alice, alice))
	}
	return s, inNamespace(s.ordinary(),
		asAlice(connfsBinary, "mount", "--airflow-home", s.home, s.mount))
}

// inside returns a command that runs in the mount namespace of a process.
func inside(pid int, cmd *exec.Cmd) *exec.Cmd {
	args := append([]string{"-t", strconv.Itoa(pid), "-m", "--"}, cmd.Args...)
	wrapped := exec.Command("nsenter", args...)
	wrapped.Dir, wrapped.Env = cmd.Dir, cmd.Env
	return wrapped
}

// inside starts a helper under uid in the mount namespace of the daemon.
func (d *daemon) inside(uid int) *reader {
	d.t.Helper()
	id := strconv.Itoa(uid)
	r := startReader(d.t, uid, inside(d.cmd.Process.Pid, exec.Command(
		"setpriv", "--reuid="+id, "--regid="+id, "--clear-groups", helperBinary)))
	r.read("/dev/null") // once it answers, it is inside
	return r
}

func TestOrdinaryUserMountsForHerself(t *testing.T) {
	t.Parallel()
	s, cmd := hers(t, "conn")
	d := s.launch(cmd)
	a := d.inside(alice)
	n := 0
	for id, answer := range readAnswers(t, "2.10") {
		if name, ok := conn.FileName(id); ok && answer.JSON != nil {
			a.reads(s.mount+"/"+name, *answer.JSON)
			n++
		}
	}
	if n < 60 {
		t.Errorf("only %d connections", n)
	}
	for _, uid := range []int{bob, 0} {
		r := d.inside(uid)
		r.fails(s.file("plain_all"), "EACCES")
		if got := r.do(request{Op: "list", Path: s.mount}); got.failure() != "EACCES" {
			t.Errorf("uid %d lists: %q %q, want EACCES", uid, got.failure(), got.Names)
		}
	}
	if !strings.Contains(d.log(), "connfs: ") {
		t.Errorf("the log:\n%s", d.log())
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestOrdinaryUserNeedsLeaveToMountForOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.audit = s.home + "/audit.jsonl"
	s.configure("", grant(alice, "*")+s.environment()+grant(bob, "*"))
	must(t, os.Mkdir(s.mount, 0o755))
	for _, path := range []string{s.mount, s.config, s.home} {
		must(t, os.Chown(path, alice, alice))
	}
	script := fmt.Sprintf(
		"%s; echo 'mount_max = 10' >%[2]s/fuse.conf; mount --bind %[2]s/fuse.conf /etc/fuse.conf",
		s.ordinary(), s.dir,
	)
	code, printed := s.refused(inNamespace(script,
		asAlice(connfsBinary, "mount", "--config", s.config, s.mount)))
	if code != 8 ||
		!strings.Contains(printed, "/etc/fuse.conf does not let an ordinary user mount for them") ||
		!strings.Contains(printed, "user_allow_other") {
		t.Errorf("exit code %d: %s", code, printed)
	}
}

// own makes config.toml in her directory of configurations.
func (s *site) own(text string) {
	s.t.Helper()
	path := s.dir + "/hers/.config/connfs/config.toml"
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600),
		os.Chown(path, alice, alice))
	s.config = path
}

// withHome gives a command of hers her home, and an /etc/fuse.conf that lets nobody mount for
// others.
func (s *site) withHome(args ...string) *exec.Cmd {
	conf := s.dir + "/fuse.conf"
	must(s.t, os.WriteFile(conf, []byte("mount_max = 1000\n"), 0o644))
	cmd := inNamespace(s.ordinary()+"; mount --bind "+conf+" /etc/fuse.conf",
		asAlice(append([]string{connfsBinary}, args...)...))
	cmd.Env = append(cmd.Env, "HOME="+s.dir+"/hers")
	return cmd
}

func TestOrdinaryUsersOwnGrantsNeedNoLeave(t *testing.T) {
	t.Parallel()
	s, _ := hers(t, "conn")
	s.own(grant(alice, "plain_*"))
	// Some rows of that metastore open with no key, so check fails, but not on this.
	_, printed := s.refused(s.withHome("check", "--airflow-home", s.home))
	if !strings.Contains(printed, "/hers/.config/connfs/config.toml: 1 grants") ||
		!strings.Contains(printed, "ok    fuse: ") || strings.Contains(printed, "fail  fuse: ") {
		t.Errorf("check: %s", printed)
	}
	d := s.launch(s.withHome("mount", "--airflow-home", s.home, s.mount))
	a := d.inside(alice)
	if got := a.read(s.file("plain_all")); got.failure() != "" || len(got.Data) == 0 {
		t.Errorf("her own grant: %q, %d bytes", got.failure(), len(got.Data))
	}
	a.fails(s.file("other"), "EACCES")
	for _, uid := range []int{bob, 0} {
		d.inside(uid).fails(s.file("plain_all"), "EACCES")
	}
	if mounts := a.mounts(s.dir + "/hers"); strings.Contains(mounts, "allow_other") ||
		!strings.Contains(mounts, "user_id=5001") {
		t.Errorf("mounted as %s", mounts)
	}

	// A grant for somebody else would need another mount.
	s.own(grant(alice, "plain_*") + grant(bob, "plain_*"))
	d.reload("a mount for one user alone can only get grants for others by a restart")
	s.own(grant(alice, "other"))
	d.reload("connfs: reloaded")
	a.fails(s.file("plain_all"), "EACCES")
	a.fails(s.file("other"), "ENOENT")
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestOrdinaryUsersWrongHomeIsAnError(t *testing.T) {
	t.Parallel()
	s, _ := hers(t, "conn")
	for _, c := range []struct {
		home string
		code int
		says string
	}{
		{s.dir + "/hers", 3, "--airflow-home: " + s.dir + "/hers is not an Airflow home"},
		{s.dir + "/hers/none", 3, "--airflow-home: " + s.dir + "/hers/none: no such file"},
		{"", 2, "--airflow-home is empty: is a variable not set?"},
	} {
		code, printed := s.refused(s.withHome("mount", "--airflow-home", c.home, s.mount))
		if code != c.code || !strings.Contains(printed, c.says) ||
			strings.Contains(printed, "ready") {
			t.Errorf("%q: exit code %d: %s", c.home, code, printed)
		}
	}
}

// terminal returns a function that makes a terminal, whose output it copies to the log.
func terminal(t *testing.T) func(log *os.File) *os.File {
	return func(log *os.File) *os.File {
		t.Helper()
		master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		must(t, err)
		number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
		must(t, err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
		slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
		must(t, err)
		copied, err := os.OpenFile(log.Name(), os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		t.Cleanup(func() { slave.Close(); master.Close() })
		go func() {
			defer copied.Close()
			buffer := make([]byte, 4096)
			for {
				n, err := master.Read(buffer)
				if err != nil {
					return
				}
				copied.WriteString(strings.ReplaceAll(string(buffer[:n]), "\r", ""))
			}
		}()
		return slave
	}
}

func TestAuditOfOnesOwnMountDoesNotFloodATerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, config string
		terminal     bool
		audited      bool
	}{
		{"on a terminal", "", true, false},
		{"on a terminal, and asked for", "[audit]\nfile = \"-\"\n", true, true},
		{"elsewhere", "", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, _ := hers(t, "conn")
			s.own(c.config)
			cmd := s.withHome("mount", "--airflow-home", s.home, s.mount)
			var d *daemon
			if c.terminal {
				d = s.launchTo(cmd, terminal(t))
			} else {
				d = s.launch(cmd)
			}
			a := d.inside(alice)
			for range 3 {
				if got := a.read(s.file("plain_all")); got.failure() != "" {
					t.Errorf("read: %s", got.failure())
				}
			}
			a.fails(s.file("no-such-connection"), "ENOENT")
			d.await("not served") // why it failed is said in any case
			if c.audited {
				d.await(`"id":"plain_all"`)
			}
			if code := d.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			d.await("connfs: stopping\n") // the terminal may be late
			if got := strings.Contains(d.log(), `"op":`); got != c.audited {
				t.Errorf("audited: %v\n%s", got, d.log())
			}
		})
	}
}
