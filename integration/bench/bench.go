package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// uid is the reader.
const uid = 5001

// bench is where one run happens. It stands in for the test that integration/servers
// starts its servers for.
type bench struct {
	testing.TB // nil: nothing but what is below is called

	rounds, reads, ids int
	seconds            float64
	threads            string

	dir string // everybody may enter it
	// Programs in dir, which uid can execute.
	connfs, floorfs, reader, self string

	mu       sync.Mutex
	cleanups []func()
}

// failure is what ends a run.
type failure string

func (b *bench) Helper()                        {}
func (b *bench) Fatal(args ...any)              { panic(failure(fmt.Sprint(args...))) }
func (b *bench) Fatalf(format string, a ...any) { panic(failure(fmt.Sprintf(format, a...))) }

// must ends the run if err is an error.
func (b *bench) must(err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// Cleanup has f called at the end of the part.
func (b *bench) Cleanup(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleanups = append(b.cleanups, f)
}

// clean undoes everything.
func (b *bench) clean() { b.undo(0) }

// undo calls what was given to Cleanup after the first n, the last first.
func (b *bench) undo(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range slices.Backward(b.cleanups[n:]) {
		f()
	}
	b.cleanups = b.cleanups[:n]
}

// during runs f and undoes what it left.
func (b *bench) during(f func()) {
	b.mu.Lock()
	n := len(b.cleanups)
	b.mu.Unlock()
	defer b.undo(n)
	f()
}

// prepare builds the programs.
func (b *bench) prepare() {
	if os.Getuid() != 0 {
		b.Fatal("needs root: it mounts for another user")
	}
	var err error
	b.dir, err = os.MkdirTemp("", "connfs-bench")
	b.must(err)
	b.Cleanup(func() { _ = os.RemoveAll(b.dir) })
	b.must(os.Chmod(b.dir, 0o755))
	b.connfs, b.floorfs = filepath.Join(b.dir, "connfs"), filepath.Join(b.dir, "floorfs")
	b.reader, b.self = filepath.Join(b.dir, "reader"), filepath.Join(b.dir, "bench")
	self, err := os.Executable()
	b.must(err)
	b.output("make", "-s", "-C", "integration/fusefloor/reader")
	b.output("env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", b.floorfs,
		"./integration/fusefloor/floorfs")
	for from, to := range map[string]string{
		"bin/connfs": b.connfs, "integration/fusefloor/reader/reader": b.reader, self: b.self,
	} {
		b.output("install", "-m", "0755", from, to)
	}
	b.must(os.Chmod(b.connfs, 0o711))
}

// output runs a program to its end and returns what it wrote.
func (b *bench) output(name string, args ...string) []byte {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		stderr := ""
		if e, ok := err.(*exec.ExitError); ok {
			stderr = string(e.Stderr)
		}
		b.Fatalf("%s %v: %v %s%s", name, args, err, out, stderr)
	}
	return out
}

// write makes a file in the run's directory.
func (b *bench) write(name, text string) string {
	path := filepath.Join(b.dir, name)
	b.must(os.MkdirAll(filepath.Dir(path), 0o755))
	b.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}
