// Package servers starts throw-away servers for integration tests: the real
// programs, as unprivileged users, in a temporary directory, on free loopback ports,
// with TLS. A program that is missing fails the test and names the package that has
// it; nothing is ever skipped.
package servers

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// startTimeout is how long a server may take to answer a query of the tests' own: some load most
// of their code at the first one, which takes a busy machine a minute.
const startTimeout = 3 * time.Minute

// process is a server program that can be stopped and started again.
type process struct {
	t       testing.TB
	account *account
	path    string
	args    []string
	log     string // path
	ready   func() error
	cmd     *exec.Cmd
	exited  chan struct{}
}

// start runs the program and waits until it answers.
func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = p.account.command(p.path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("starting %s: %v", p.path, err)
	}
	p.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(p.cmd, p.exited)

	deadline := time.After(startTimeout)
	for {
		err := p.ready()
		if err == nil {
			return
		}
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended at once: %v\n%s", p.path, err, tail(p.log))
		case <-deadline:
			p.t.Fatalf("%s does not answer: %v\n%s", p.path, err, tail(p.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end sends a signal and waits until the program is gone.
func (p *process) end(s syscall.Signal) {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("ending %s: %v", p.path, err)
	}
	select {
	case <-p.exited:
	case <-time.After(startTimeout):
		_ = p.cmd.Process.Kill()
		p.t.Fatalf("%s does not end", p.path)
	}
	p.cmd = nil
}

// Pause stops the program from doing anything, without ending it, until the returned
// function is called. Its connections stay open.
func (p *process) Pause() (resume func()) {
	p.t.Helper()
	cmd := p.cmd
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatalf("pausing %s: %v", p.path, err)
	}
	return func() { _ = cmd.Process.Signal(syscall.SIGCONT) }
}

// account is the user that servers run as: they refuse to be root.
type account struct{ uid, gid uint32 }

// accountNamed returns the user of that name, and the caller's own where the caller is
// not root.
func accountNamed(t testing.TB, name, debian string) *account {
	t.Helper()
	if os.Getuid() != 0 {
		return &account{uint32(os.Getuid()), uint32(os.Getgid())}
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("no user %s: apt-get install %s", name, debian)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &account{uint32(uid), uint32(gid)}
}

func (a *account) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid},
		}
	}
	return cmd
}

// run runs a program to its end.
func (a *account) run(t testing.TB, path string, args ...string) {
	t.Helper()
	if out, err := a.command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
}

// dir returns a new directory of the account's own. It is short, for socket paths, and
// not t.TempDir, which others may not enter.
func (a *account) dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "connfs-db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a.own(t, dir)
	return dir
}

func (a *account) own(t testing.TB, paths ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for _, path := range paths {
		if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// write makes a file that only the account reads.
func (a *account) write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.own(t, path)
	return path
}

// program finds a program, newest version first where path is a pattern.
func program(t testing.TB, pattern, debian string) string {
	t.Helper()
	found, _ := filepath.Glob(pattern)
	if len(found) == 0 {
		t.Fatalf("%s is missing: apt-get install %s", pattern, debian)
	}
	return found[len(found)-1]
}

// freePort returns a loopback port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newPassword returns a password for this run only.
func newPassword() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(0, len(text)-2000):])
}
