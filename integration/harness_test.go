//go:build integration

// Package integration_test runs the connfs binary on real mounts and real servers. The
// mounts are read by child processes under several uids, never by the test process
// itself: a test that waits for its own answer would hang.
package integration_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The uids of the tests. None of them needs an account.
const (
	alice = 5001 // a reader with grants
	bob   = 5002 // another one
	owner = 5003 // of airflow_home, as whom the resolver children run
)

// patience bounds every wait for something that must happen at some time.
const patience = 60 * time.Second

// What TestMain builds, where every user can execute it.
var (
	baseDir       string // holds everything
	connfsBinary  string
	memscanBinary string
	helperBinary  string // this test binary
)

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		helperMain()
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getuid() != 0 {
		return 0, errors.New("these tests mount for several users: run them as root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return 0, fmt.Errorf("these tests mount: %w", err)
	}
	if baseDir, err = os.MkdirTemp("", "connfs-it"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(baseDir)
	if err := os.Chmod(baseDir, 0o755); err != nil {
		return 0, err
	}
	connfsBinary, memscanBinary, helperBinary = filepath.Join(baseDir, "connfs"),
		filepath.Join(baseDir, "memscan"), filepath.Join(baseDir, "helper")
	if built := os.Getenv("CONNFS_BIN"); built != "" {
		err = install(built, connfsBinary, 0o711)
	} else {
		err = build("github.com/connfs/connfs/cmd/connfs", connfsBinary, false)
	}
	self, errSelf := os.Executable()
	err = errors.Join(err, errSelf,
		build("github.com/connfs/connfs/integration/memscan", memscanBinary, false),
		install(self, helperBinary, 0o755))
	if err != nil {
		return 0, err
	}
	if err := lookAtSources(); err != nil {
		return 0, err
	}
	// Most of the time these tests wait.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// lookAtSources makes `go test` run these tests again, in place of a cached result, when
// a source of the daemon changes: the tests do not import the binary that they run.
func lookAtSources() error {
	for _, dir := range []string{"cmd", "conn", "fs", "internal", "kms", "resolve"} {
		root := filepath.Join("..", dir)
		err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// build builds a command with mode 0711, as it is installed.
func build(pkg, to string, cgo bool) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", to, pkg)
	enabled := "CGO_ENABLED=0"
	if cgo {
		enabled = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), enabled)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return os.Chmod(to, 0o711)
}

func install(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, text, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// site is a place for one daemon: a configuration, an airflow_home, an audit file and a
// mountpoint.
type site struct {
	t      *testing.T
	binary string
	dir    string
	home   string // of the uid owner, mode 0700
	mount  string
	config string
	audit  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp(baseDir, "site")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{
		t: t, binary: connfsBinary, dir: dir, home: filepath.Join(dir, "home"),
		mount: filepath.Join(dir, "conn"), config: filepath.Join(dir, "config.toml"),
		audit: filepath.Join(dir, "audit.jsonl"),
	}
	must(t, os.Chmod(dir, 0o755), os.Mkdir(s.home, 0o700), os.Chown(s.home, owner, owner))
	return s
}

// must fails the test at the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// configure writes config.toml: keys are top-level keys, tables is what follows them. Children
// run as the uid owner, if keys name no other user.
func (s *site) configure(keys, tables string) {
	s.t.Helper()
	if !strings.Contains("\n"+keys, "\nuser = ") {
		keys = fmt.Sprintf("user = %d\n%s", owner, keys)
	}
	text := fmt.Sprintf("airflow_home = %q\n%s\n[audit]\nfile = %q\n%s\n", s.home, keys, s.audit,
		tables)
	must(s.t, os.WriteFile(s.config, []byte(text), 0o600))
}

// grant is a [[grant]] table.
func grant(uid int, patterns ...string) string {
	return fmt.Sprintf("[[grant]]\nrun_as_user = %d\nconnections = [%s]\n", uid, quoteAll(patterns))
}

func quoteAll(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(quoted, ", ")
}

// write makes a file of the uid owner in airflow_home and returns its path. It
// replaces one that is there at once, as an editor does.
func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.home, name)
	must(s.t, os.WriteFile(path+".new", []byte(text), 0o600), os.Chown(path+".new", owner, owner),
		os.Rename(path+".new", path))
	return path
}

// environment writes an environment file and returns the [environment] table for it.
func (s *site) environment(variables ...string) string {
	s.t.Helper()
	return fmt.Sprintf("[environment]\nfile = %q\n",
		s.write("connections.env", strings.Join(variables, "\n")+"\n"))
}

// daemon is a running connfs.
type daemon struct {
	*site
	cmd    *exec.Cmd
	path   string // of its log
	exited chan struct{}
	err    error // of cmd.Wait, once exited is closed
}

// command returns the command line of `connfs mount`.
func (s *site) command() *exec.Cmd {
	cmd := exec.Command(s.binary, "mount", "--config", s.config, s.mount)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// serve starts the daemon, waits until it serves, and has t unmount it at the end.
func (s *site) serve(env ...string) *daemon {
	s.t.Helper()
	cmd := s.command()
	cmd.Env = append(cmd.Env, env...)
	return s.launch(cmd)
}

// launch is serve with another command line.
func (s *site) launch(cmd *exec.Cmd) *daemon {
	s.t.Helper()
	return s.launchTo(cmd, func(log *os.File) *os.File { return log })
}

// launchTo is launch with an output of the daemon's that out makes, and that ends up in the log.
func (s *site) launchTo(cmd *exec.Cmd, out func(log *os.File) *os.File) *daemon {
	s.t.Helper()
	log, err := os.CreateTemp(s.dir, "log")
	must(s.t, err)
	defer log.Close()
	output := out(log)
	cmd.Stderr, cmd.Stdout = output, output
	d := &daemon{site: s, cmd: cmd, path: log.Name(), exited: make(chan struct{})}
	must(s.t, cmd.Start())
	s.t.Cleanup(d.end)
	go func() {
		d.err = cmd.Wait()
		close(d.exited)
	}()
	d.await("connfs: ready\n")
	return d
}

// end stops the daemon in whatever state the test left it, and shows its log if the test
// failed.
func (d *daemon) end() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Error("the daemon does not stop")
		d.cmd.Process.Kill()
		<-d.exited
	}
	for unix.Unmount(d.mount, unix.MNT_DETACH) == nil {
	}
	if d.t.Failed() {
		d.t.Logf("log of the daemon:\n%s", d.log())
	}
}

// stop ends the daemon as an administrator does, and returns its exit code.
func (d *daemon) stop() int {
	d.t.Helper()
	must(d.t, d.cmd.Process.Signal(syscall.SIGTERM))
	return d.wait()
}

// wait waits until the daemon is gone and returns its exit code.
func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Fatalf("the daemon does not end; its log:\n%s", d.log())
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *daemon) log() string {
	text, err := os.ReadFile(d.path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// await waits until the log holds text.
func (d *daemon) await(text string) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(d.log(), text) {
		select {
		case <-d.exited:
			if strings.Contains(d.log(), text) {
				return
			}
			d.t.Fatalf("the daemon ended (%v) before it logged %q:\n%s", d.err, text, d.log())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the daemon did not log %q:\n%s", text, d.log())
		}
	}
}

// reload has the daemon read its configuration again and waits for one more line that
// begins with outcome.
func (d *daemon) reload(outcome string) {
	d.t.Helper()
	before := strings.Count(d.log(), outcome)
	must(d.t, d.cmd.Process.Signal(syscall.SIGHUP))
	eventually(d.t, "the log says "+outcome, func() bool {
		return strings.Count(d.log(), outcome) > before
	})
}

// refused runs a daemon that must not start and returns its exit code and what it printed.
func (s *site) refused(cmd *exec.Cmd) (int, string) {
	s.t.Helper()
	var printed bytes.Buffer
	cmd.Stderr, cmd.Stdout = &printed, &printed
	must(s.t, cmd.Start())
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), printed.String()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// file returns the path of a file in the mount.
func (s *site) file(name string) string { return s.mount + "/" + name + ".json" }

// auditLines returns the lines of the audit file that hold all of the texts.
func (s *site) auditLines(texts ...string) []string {
	s.t.Helper()
	text, err := os.ReadFile(s.audit)
	must(s.t, err)
	var lines []string
next:
	for line := range strings.Lines(string(text)) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// canary returns a made-up secret of this run.
func canary() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// fileText is the content of the file of a connection with these fields, and null for
// all others.
func fileText(connType, host, password, extra string) string {
	if extra == "" {
		extra = "null"
	}
	return fmt.Sprintf(`{"conn_type":%q,"description":null,"host":%q,"login":null,"password":%q,"schema":null,"port":null,"extra":%s}`+"\n",
		connType, host, password, extra)
}
