//go:build integration

package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// disk is a filesystem with one file, whose writes can be made to hang as those of a disk
// that has stopped.
type disk struct {
	gofs.Inode
	mu    sync.Mutex
	data  []byte
	gate  chan struct{} // closed: writes go through
	stuck int           // writes that wait
}

// newDisk mounts such a disk and returns the path of its file.
func newDisk(t *testing.T) (*disk, string) {
	t.Helper()
	dir := t.TempDir()
	d := &disk{gate: make(chan struct{})}
	close(d.gate)
	root := &gofs.Inode{}
	server, err := gofs.Mount(dir, root, &gofs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "disk"},
		OnAdd: func(ctx context.Context) {
			root.AddChild("audit.jsonl",
				root.NewPersistentInode(ctx, d, gofs.StableAttr{Mode: syscall.S_IFREG}), false)
		},
	})
	must(t, err)
	t.Cleanup(func() {
		d.resume()
		unix.Unmount(dir, unix.MNT_DETACH)
		server.Wait()
	})
	return d, filepath.Join(dir, "audit.jsonl")
}

func (d *disk) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *disk) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(d.data))
	return 0
}

func (d *disk) Write(
	ctx context.Context, _ gofs.FileHandle, data []byte, _ int64,
) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := d.gate
	d.stuck++
	d.mu.Unlock()
	<-gate // and no signal ends it
	d.mu.Lock()
	d.stuck--
	d.data = append(d.data, data...)
	return uint32(len(data)), 0
}

func (d *disk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = make(chan struct{})
}

func (d *disk) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.gate:
	default:
		close(d.gate)
	}
}

func (d *disk) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stuck
}

// opens counts the lines of granted opens, and what the lines of lost ones add up to.
func (d *disk) opens(t *testing.T) (lines, lost int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range strings.Lines(string(d.data)) {
		var e struct {
			Op      string
			Allowed bool
			Count   int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("not a line: %q", line)
		}
		switch {
		case e.Op == "lost":
			lost += e.Count
		case e.Op == "open" && e.Allowed:
			lines++
		}
	}
	return lines, lost
}

func hangingSite(t *testing.T, required bool) (*daemon, *disk, string) {
	s := newSite(t)
	disk, path := newDisk(t)
	s.audit = path
	text := fileText("http", "h.example", "made-up", "")
	s.configure(
		"timeout = \"1s\"\nttl = \"60s\"",
		fmt.Sprintf("required = %t\n", required)+s.environment(
			"AIRFLOW_CONN_X="+strings.TrimSpace(text),
		)+grant(alice, "x"),
	)
	d := s.serve()
	t.Cleanup(disk.resume) // before the daemon is ended, which the kernel would not let go
	return d, disk, text
}

// hangs lets the disk hang once the daemon has both of its children. A process that it starts
// afterwards waits for the disk: the kernel flushes the audit file there as the new process leaves
// it behind, and file systems like this one wait for the line that is being written.
func (d *disk) hangs(t *testing.T, of *daemon) {
	t.Helper()
	eventually(t, "there is a resolver child, and a spare one", func() bool {
		resolvers := 0
		for _, child := range processChildren(t, of.cmd.Process.Pid) {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			if strings.Contains(string(text), "\x00resolver") {
				resolvers++
			}
		}
		return resolvers == 2
	})
	d.hang()
}

// A disk that hangs holds up the readers whose lines it was writing, and nobody who comes
// later. The lines that it could not take are counted.
func TestADiskThatHangsHoldsUpNobodyWhoComesLater(t *testing.T) {
	t.Parallel()
	d, disk, text := hangingSite(t, false)
	a, b := as(t, alice), as(t, alice)
	a.reads(d.file("x"), text)
	disk.hangs(t, d)
	a.send(request{Op: "read", Path: d.file("x")})
	eventually(t, "a line is being written", func() bool { return disk.waiting() > 0 })
	// Whoever comes within patience of audit.Log may be held up too: each such line is
	// one that the disk was writing.
	time.Sleep(300 * time.Millisecond)
	reads := 2
	began := time.Now()
	for range 200 {
		b.reads(d.file("x"), text)
		reads++
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("200 reads beside a disk that hangs took %v", took)
	}
	disk.resume()
	if got := a.receive(patience); got.failure() != "" || string(got.Data) != text {
		t.Errorf("the reader that was held up: %q and %d bytes", got.failure(), len(got.Data))
	}
	eventually(t, "every open has its line, or is counted", func() bool {
		b.reads(d.file("x"), text)
		reads++
		lines, lost := disk.opens(t)
		return lines+lost >= reads
	})
	lines, lost := disk.opens(t)
	t.Logf("%d reads, %d lines, %d lost", reads, lines, lost)
}

// Where the audit is required, a disk that hangs denies reads, within their deadline, and
// lets them through again as soon as it works.
func TestADiskThatHangsDeniesWhatMustBeAudited(t *testing.T) {
	t.Parallel()
	d, disk, text := hangingSite(t, true)
	a := as(t, alice)
	a.reads(d.file("x"), text)
	disk.hangs(t, d)
	for range 3 {
		if got := a.fails(d.file("x"), "EACCES"); got.Elapsed > 5*time.Second {
			t.Errorf("denied after %v", got.Elapsed)
		}
	}
	disk.resume()
	eventually(t, "a read", func() bool { return a.read(d.file("x")).Errno == "" })
	a.reads(d.file("x"), text)
}

// Ending the daemon takes the mount away although the disk hangs, and releases the readers
// that wait. The kernel ends the process itself once the disk works again.
func TestADiskThatHangsDoesNotKeepTheMount(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{false, true} {
		d, disk, text := hangingSite(t, required)
		a := as(t, alice)
		a.reads(d.file("x"), text)
		disk.hangs(t, d)
		a.send(request{Op: "read", Path: d.file("x")})
		eventually(t, "a line is being written", func() bool { return disk.waiting() > 0 })
		must(t, d.cmd.Process.Signal(syscall.SIGTERM))
		eventually(t, "the mount is gone", func() bool { return !mounted(t, d.mount) })
		disk.resume()
		d.wait()
		a.receive(patience)
	}
}
