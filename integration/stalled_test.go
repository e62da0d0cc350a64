//go:build integration

package integration_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/resolve/resolvetest"
)

// stalled is a daemon whose standard error is a pipe that takes nothing, as that of a log driver
// that has stopped.
type stalled struct {
	*daemon
	out  *os.File // the end of the pipe from which nobody reads
	once sync.Once
}

// serveStalled starts a daemon with a pipe that is full, and waits until alice can read x.
func serveStalled(t *testing.T, s *site) *stalled {
	t.Helper()
	out, in, err := os.Pipe()
	must(t, err)
	fd := int(in.Fd()) // which makes it block
	must(t, unix.SetNonblock(fd, true))
	for err = nil; err == nil; {
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	must(t, unix.SetNonblock(fd, false))
	cmd := s.command()
	cmd.Stderr = in
	d := &stalled{out: out, daemon: &daemon{
		site: s, cmd: cmd, path: filepath.Join(s.dir, "log"), exited: make(chan struct{}),
	}}
	must(t, os.WriteFile(d.path, nil, 0o600), cmd.Start(), in.Close())
	t.Cleanup(func() {
		d.resume()
		d.end()
	})
	go func() {
		d.err = cmd.Wait()
		close(d.exited)
	}()
	a := as(t, alice)
	eventually(t, "a read", func() bool {
		return mounted(t, s.mount) && string(a.read(s.file("x")).Data) == dagFile
	})
	return d
}

// resume reads the pipe from now on. What it held before the daemon began is left out.
func (d *stalled) resume() {
	d.once.Do(func() {
		go func() {
			log, err := os.OpenFile(d.path, os.O_WRONLY, 0)
			if err != nil {
				return
			}
			defer log.Close()
			for b := make([]byte, 4096); ; {
				n, err := d.out.Read(b)
				io.WriteString(log, strings.Trim(string(b[:n]), "\x00"))
				if err != nil {
					return
				}
			}
		}()
	})
}

// stalledSite grants x, and ids that do not exist. Its binary can be taken away.
func stalledSite(t *testing.T, audit string) *site {
	t.Helper()
	s := newSite(t)
	s.audit = audit
	s.binary = filepath.Join(s.dir, "connfs")
	text, err := os.ReadFile(connfsBinary)
	must(t, err)
	resolvetest.WriteProgram(t, s.binary, text)
	must(t, os.Chmod(s.binary, 0o711))
	s.grantStalled(alice, bob)
	return s
}

func (s *site) grantStalled(uids ...int) {
	s.t.Helper()
	tables := s.environment("AIRFLOW_CONN_X=http://h/")
	for _, uid := range uids {
		tables += grant(uid, "x", "cold_*")
	}
	s.configure("ttl = \"1s\"\nnegative_ttl = \"0s\"\ntimeout = \"2s\"", tables)
}

// revoke takes alice's grant away with a SIGHUP.
func (d *stalled) revoke() {
	d.t.Helper()
	d.grantStalled(bob)
	a := as(d.t, alice)
	a.reads(d.file("x"), dagFile)
	must(d.t, d.cmd.Process.Signal(syscall.SIGHUP))
	eventually(d.t, "a refusal, since the grant is revoked", func() bool {
		return a.read(d.file("x")).Errno == "EACCES"
	})
	as(d.t, bob).reads(d.file("x"), dagFile)
}

// While standard error takes nothing, files are read, cold ones too, a SIGHUP is carried out and a
// SIGTERM ends the daemon. Without children, reads fail within their deadline.
func TestAStandardErrorThatTakesNothingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for _, audit := range []string{"file", "-"} {
		t.Run("the audit goes to "+audit, func(t *testing.T) {
			t.Parallel()
			file := audit
			if audit == "file" {
				file = filepath.Join(t.TempDir(), "audit.jsonl")
			}
			s := stalledSite(t, file)
			d := serveStalled(t, s)
			a, b := as(t, alice), as(t, bob)
			for i := range 5 {
				a.fails(s.file(fmt.Sprint("cold_a", i)), "ENOENT")
				b.fails(s.file(fmt.Sprint("cold_b", i)), "ENOENT")
			}

			must(t, os.Chmod(s.binary, 0))
			eventually(t, "a read that fails, since no child can be started", func() bool {
				return a.read(s.file("x")).Errno == "EIO"
			})
			for i := range 20 {
				a.send(request{Op: "read", Path: s.file(fmt.Sprint("cold_a", i))})
				b.send(request{Op: "read", Path: s.file(fmt.Sprint("cold_b", i))})
				for _, r := range []*reader{a, b} {
					if got := r.receive(patience); got.Errno != "EIO" {
						t.Errorf("uid %d, without children: %q", r.uid, got.failure())
					}
				}
			}
			must(t, os.Chmod(s.binary, 0o711))
			eventually(t, "a read, since children can be started again", func() bool {
				return a.read(s.file("x")).Errno == ""
			})

			d.revoke()
			if code := d.stop(); code != 0 {
				t.Errorf("it ended with exit code %d", code)
			}
			if mounted(t, s.mount) {
				t.Error("it ended and left its mount behind")
			}
		})
	}
}

// What waited is written in its order as soon as standard error works again.
func TestAStandardErrorThatWorksAgainGetsWhatWaited(t *testing.T) {
	t.Parallel()
	s := stalledSite(t, "-")
	d := serveStalled(t, s)
	d.revoke()
	d.resume()
	d.await("connfs: reloaded\n")
	d.await(`"errno":"EACCES"`)
	log := d.log()
	at := -1
	for _, text := range []string{"connfs: search path", "connfs: ready\n", `"op":"open"`,
		"connfs: reloaded\n"} {
		next := strings.Index(log, text)
		if next <= at {
			t.Errorf("%q is at %d, after %d", text, next, at)
		}
		at = next
	}
	if code := d.stop(); code != 0 {
		t.Errorf("it ended with exit code %d", code)
	}
	d.await("connfs: stopping\n")
}

// A crash writes more than a pipe holds, and ends the process all the same.
func TestAStandardErrorThatTakesNothingDoesNotKeepACrashFromEnding(t *testing.T) {
	t.Parallel()
	d := serveStalled(t, stalledSite(t, "-"))
	must(t, d.cmd.Process.Signal(syscall.SIGQUIT)) // to which Go answers with a crash
	if code := d.wait(); code != 2 {
		t.Errorf("it ended with exit code %d", code)
	}
}
