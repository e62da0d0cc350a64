//go:build integration

package integration_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperVariable turns the test binary into a helper: a process under another uid that
// does what it is told, line by line, and keeps its descriptors open in between.
const helperVariable = "CONNFS_TEST_HELPER"

// request is what a helper is told to do.
type request struct {
	Op    string
	Path  string
	Path2 string   // of rename
	Paths []string // of churn
	N     int      // a number that belongs to the operation
	For   time.Duration
}

// reply is the result of a request.
type reply struct {
	Errno   string // symbolic; empty: success
	Other   string // an error that is not an errno
	Data    []byte
	Size    int64
	Mode    uint32
	UID     uint32
	Names   []string
	Counts  map[string]int // of storm and churn: by errno, or by digest of the content
	Elapsed time.Duration
}

func helperMain() {
	h := &helper{open: make(map[string]*os.File)}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var q request
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, "helper:", err)
			os.Exit(1)
		}
		var r reply
		start := time.Now()
		err := h.do(&q, &r)
		r.Elapsed = time.Since(start)
		var errno syscall.Errno
		if errors.As(err, &errno) {
			r.Errno = unix.ErrnoName(errno)
		} else if err != nil {
			r.Other = err.Error()
		}
		out.Encode(r)
	}
}

type helper struct{ open map[string]*os.File }

func (h *helper) do(q *request, r *reply) (err error) {
	switch q.Op {
	case "read":
		r.Data, err = os.ReadFile(q.Path)
	case "open":
		h.open[q.Path], err = os.Open(q.Path)
	case "pread": // at offset N, on what "open" opened
		b := make([]byte, 1<<20)
		n, err := unix.Pread(int(h.open[q.Path].Fd()), b, int64(q.N))
		r.Data = b[:max(n, 0)]
		return err
	case "close":
		err = h.open[q.Path].Close()
	case "stat":
		var st unix.Stat_t
		err = unix.Stat(q.Path, &st)
		r.Size, r.Mode, r.UID = st.Size, st.Mode, st.Uid
	case "owners": // of N stats
		r.Counts = make(map[string]int)
		for range q.N {
			var st unix.Stat_t
			if err := unix.Stat(q.Path, &st); err != nil {
				return err
			}
			r.Counts[fmt.Sprint(st.Uid)]++
		}
	case "known": // what the kernel knows, without a question to the daemon
		var st unix.Statx_t
		const mask = unix.STATX_BASIC_STATS
		err = unix.Statx(unix.AT_FDCWD, q.Path, unix.AT_STATX_DONT_SYNC, mask, &st)
		r.Size, r.Mode, r.UID = int64(st.Size), uint32(st.Mode), st.Uid
	case "seek": // to the end
		f, err := os.Open(q.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		r.Size, err = f.Seek(0, io.SeekEnd)
		return err
	case "lease": // for writing, of what "open" opened
		_, err = unix.FcntlInt(h.open[q.Path].Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	case "access": // with mode N
		err = unix.Access(q.Path, uint32(q.N))
	case "list":
		r.Names, err = list(q.Path)
	case "relist": // from the beginning, what "open" opened
		if _, err = h.open[q.Path].Seek(0, io.SeekStart); err == nil {
			r.Names, err = h.open[q.Path].Readdirnames(-1)
		}
	case "opath":
		var fd int
		if fd, err = unix.Open(q.Path, unix.O_PATH, 0); err == nil {
			h.open[q.Path] = os.NewFile(uintptr(fd), q.Path)
		}
	case "fstat": // what "opath" or "open" opened
		err = unix.Fstat(int(h.open[q.Path].Fd()), new(unix.Stat_t))
	case "reopen":
		_, err = os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", h.open[q.Path].Fd()))
	case "openflags": // N
		var fd int
		if fd, err = unix.Open(q.Path, q.N, 0o600); err == nil {
			unix.Close(fd)
		}
	case "unlink":
		err = unix.Unlink(q.Path)
	case "rename":
		err = unix.Rename(q.Path, q.Path2)
	case "mkdir":
		err = unix.Mkdir(q.Path, 0o700)
	case "symlink":
		err = unix.Symlink("/etc/passwd", q.Path)
	case "link":
		err = unix.Link(q.Path, q.Path2)
	case "chmod":
		err = unix.Chmod(q.Path, 0o666)
	case "chown":
		err = unix.Chown(q.Path, os.Getuid(), -1)
	case "truncate":
		err = unix.Truncate(q.Path, 0)
	case "touch":
		err = unix.Utimes(q.Path, []unix.Timeval{{Sec: 1}, {Sec: 1}})
	case "sendfile", "splice", "mmap":
		return pageRead(q, r)
	case "storm":
		r.Counts, r.Data = storm(q.Path, q.N)
	case "churn":
		r.Counts = churn(q.Paths, q.N, q.For)
	default:
		err = fmt.Errorf("no operation %q", q.Op)
	}
	return err
}

func list(path string) ([]string, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// pageRead reads through the page cache, in the way that q.Op names.
func pageRead(q *request, r *reply) (err error) {
	f, err := os.Open(q.Path)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	n := 0
	switch q.Op {
	case "sendfile":
		n, err = unix.Sendfile(pipe[1], int(f.Fd()), nil, 4096)
	case "splice":
		var moved int64
		moved, err = unix.Splice(int(f.Fd()), nil, pipe[1], nil, 4096, 0)
		n = int(moved)
	case "mmap":
		b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		defer unix.Munmap(b)
		r.Data, err = touch(b)
		return err
	}
	if n > 0 {
		r.Data = make([]byte, n)
		unix.Read(pipe[0], r.Data)
	}
	return err
}

// touch copies mapped memory. A page that cannot be read raises SIGBUS, of which Go
// makes a panic.
func touch(b []byte) (data []byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			data, err = nil, fmt.Errorf("fault: %v", v)
		}
	}()
	return append([]byte(nil), b...), nil
}

// outcome is the key of one read in Counts.
func outcome(data []byte, err error) string {
	if err == nil {
		return digest(data)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// storm reads one file n times at once.
func storm(path string, n int) (map[string]int, []byte) {
	debug.SetMaxThreads(2*n + 1000)
	var (
		mu     sync.Mutex
		counts = make(map[string]int)
		first  []byte
		wg     sync.WaitGroup
		start  = make(chan struct{})
	)
	for range n {
		wg.Go(func() {
			<-start
			data, err := os.ReadFile(path)
			mu.Lock()
			defer mu.Unlock()
			counts[outcome(data, err)]++
			if first == nil {
				first = data
			}
		})
	}
	close(start)
	wg.Wait()
	return counts, first
}

// churn reads the paths in turn, in several goroutines, for a while.
func churn(paths []string, workers int, d time.Duration) map[string]int {
	var (
		mu     sync.Mutex
		counts = make(map[string]int)
		wg     sync.WaitGroup
		until  = time.Now().Add(d)
	)
	for w := range workers {
		wg.Go(func() {
			for i := w; time.Now().Before(until); i++ {
				data, err := os.ReadFile(paths[i%len(paths)])
				mu.Lock()
				counts[outcome(data, err)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return counts
}

// reader is a helper process under a uid.
type reader struct {
	t   *testing.T
	uid int
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// credential is a user without supplementary groups.
func credential(uid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
}

// as starts a helper under uid, which t ends.
func as(t *testing.T, uid int) *reader {
	t.Helper()
	cmd := exec.Command(helperBinary)
	cmd.SysProcAttr = credential(uid)
	return startReader(t, uid, cmd)
}

func startReader(t *testing.T, uid int, cmd *exec.Cmd) *reader {
	t.Helper()
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	cmd.Env = []string{helperVariable + "=1", "PATH=" + os.Getenv("PATH")}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	r := &reader{t: t, uid: uid, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return r
}

// do has the helper do something.
func (r *reader) do(q request) reply {
	r.t.Helper()
	r.send(q)
	return r.receive(q.For + patience)
}

func (r *reader) send(q request) {
	r.t.Helper()
	text, err := json.Marshal(q)
	must(r.t, err)
	_, err = r.in.Write(append(text, '\n'))
	must(r.t, err)
}

func (r *reader) receive(limit time.Duration) reply {
	r.t.Helper()
	timer := time.AfterFunc(limit, func() { r.cmd.Process.Kill() })
	defer timer.Stop()
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("the helper of uid %d gives no answer: %v", r.uid, err)
	}
	var answer reply
	must(r.t, json.Unmarshal(line, &answer))
	return answer
}

// read reads a file.
func (r *reader) read(path string) reply {
	r.t.Helper()
	return r.do(request{Op: "read", Path: path})
}

// reads checks that a file has exactly this content.
func (r *reader) reads(path, want string) {
	r.t.Helper()
	got := r.read(path)
	if got.failure() != "" {
		r.t.Errorf("uid %d reads %s: %s", r.uid, path, got.failure())
	} else if string(got.Data) != want {
		r.t.Errorf("uid %d reads %s: %q, want %q", r.uid, path, shorten(got.Data),
			shorten([]byte(want)))
	}
}

// fails checks that reading a file fails with this errno, and says nothing else.
func (r *reader) fails(path, errno string) reply {
	r.t.Helper()
	got := r.read(path)
	if got.failure() != errno || len(got.Data) > 0 {
		r.t.Errorf("uid %d reads %s: %q and %d bytes, want %s", r.uid, path, got.failure(),
			len(got.Data), errno)
	}
	return got
}

// failure names what went wrong; empty: nothing.
func (r *reply) failure() string {
	if r.Errno != "" {
		return r.Errno
	}
	return r.Other
}

func shorten(b []byte) []byte { return b[:min(len(b), 200)] }

// output runs a program under uid and returns its standard output, its standard
// error, and its exit code.
func output(t *testing.T, uid int, args ...string) (stdout []byte, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "env", args...) // found on the PATH of that user
	cmd.SysProcAttr, cmd.Dir, cmd.Env = credential(uid), "/",
		[]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	stdout, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout, string(exit.Stderr), exit.ExitCode()
	}
	must(t, err)
	return stdout, "", 0
}
