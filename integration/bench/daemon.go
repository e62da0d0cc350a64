package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a mounted filesystem that serves uid.
type daemon struct {
	b     *bench
	name  string
	mount string
	log   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch starts a daemon in a session of its own, since the scheduler groups by session,
// and waits until it serves the file. {MOUNT} in its arguments is the mountpoint.
func (b *bench) launch(name, file, program string, args ...string) *daemon {
	d := b.exec(name, program, args...)
	deadline := time.Now().Add(30 * time.Second)
	for d.read(file) == nil {
		select {
		case <-d.ended:
			b.Fatalf("%s ended: %s", name, d.logEnd())
		default:
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s serves nothing: %s", name, d.logEnd())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return d
}

// exec is launch without the wait.
func (b *bench) exec(name, program string, args ...string) *daemon {
	d := &daemon{
		b: b, name: name, mount: filepath.Join(b.dir, "mnt", name),
		log: filepath.Join(b.dir, name+".log"), ended: make(chan struct{}),
	}
	b.must(os.MkdirAll(d.mount, 0o755))
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{MOUNT}", d.mount)
	}
	d.cmd = exec.Command(program, args...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log, err := os.Create(d.log)
	b.must(err)
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	b.must(d.cmd.Start())
	b.Cleanup(d.stop)
	go func() {
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	return d
}

// connfsWith starts connfs with a configuration of these lines, and a grant of everything.
func (b *bench) connfsWith(name, file, audit string, lines ...string) *daemon {
	return b.launch(name, file, b.connfs, "mount", "--config", b.config(name, audit, lines...),
		"{MOUNT}")
}

// config writes a configuration. Its audit is the value of [audit] file, and perhaps more
// lines after it; {FILE} is a file of the daemon's own.
func (b *bench) config(name, audit string, lines ...string) string {
	audit = strings.ReplaceAll(audit, "{FILE}", filepath.Join(b.dir, name+".audit"))
	return b.write(name+".toml", fmt.Sprintf("memory_lock = \"try\"\n%s\n[audit]\nfile = "+
		"%s\n[[grant]]\nrun_as_user = %d\nconnections = [\"*\"]\n",
		strings.Join(lines, "\n"), audit, uid))
}

// auditFile and auditNone are values for config. connfs always audits:
// with auditNone it writes each line to standard error, which is /dev/null.
const (
	auditFile     = `"{FILE}"`
	auditRequired = auditFile + "\nrequired = true"
	auditNone     = `"-"`
)

// quietly starts connfs with standard error at /dev/null.
func (b *bench) quietly(name, file string, lines ...string) *daemon {
	return b.launch(name, file, "/bin/sh", "-c", `exec "$0" "$@" 2>/dev/null`, b.connfs, "mount",
		"--config", b.config(name, auditNone, lines...), "{MOUNT}")
}

// floor starts floorfs.
func (b *bench) floor(name string, args ...string) *daemon {
	return b.launch(name, "c0", b.floorfs,
		append([]string{"-mount", "{MOUNT}", "-allow-uids", strconv.Itoa(uid)}, args...)...)
}

// logEnd returns the end of the daemon's log.
func (d *daemon) logEnd() string {
	text, _ := os.ReadFile(d.log)
	return string(text[max(0, len(text)-2000):])
}

func (d *daemon) file(id string) string { return filepath.Join(d.mount, id+".json") }

// read returns a file as the reader sees it, nil where it cannot be read.
func (d *daemon) read(id string) []byte {
	cmd := exec.Command("cat", d.file(id))
	cmd.SysProcAttr = asReader()
	text, err := cmd.Output()
	if err != nil {
		return nil
	}
	return text
}

// asReader lets a command run as the reader.
func asReader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// stop ends the daemon and waits for it.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	_ = unix.Unmount(d.mount, unix.MNT_DETACH)
}

// pids returns the daemon and its descendants.
func (d *daemon) pids() []int {
	todo, out := []int{d.cmd.Process.Pid}, []int(nil)
	for len(todo) > 0 {
		pid := todo[0]
		out, todo = append(out, pid), todo[1:]
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, path := range tasks {
			text, _ := os.ReadFile(path)
			for _, child := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(child); err == nil {
					todo = append(todo, n)
				}
			}
		}
	}
	return out
}

// pin keeps the daemon on some CPUs, as taskset names them.
func (d *daemon) pin(cpus string) {
	for _, pid := range d.pids() {
		err := exec.Command("taskset", "-a", "-p", "-c", cpus, strconv.Itoa(pid)).Run()
		if err != nil && syscall.Kill(pid, 0) == nil { // a child may have ended meanwhile
			d.b.Fatalf("pinning a process of %s: %v", d.name, err)
		}
	}
}
