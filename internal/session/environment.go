package session

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/settings"
)

// environmentFD is the variable that tells a daemon which executed itself again from which
// descriptor to read the variables that it was first started with.
const environmentFD = "CONNFS_ENVIRONMENT_FD"

// secret reports whether a variable is one of Airflow's or of the login of a backend, and so may
// be a connection or a key.
func secret(entry string) bool {
	return strings.HasPrefix(entry, "AIRFLOW_") || settings.Login(entry)
}

// Cleanse moves variables that may be secrets out of the environment of a process that will live
// long: what a process was started with stays in its memory until it ends. It puts them into a
// descriptor, executes this binary again without them, and does not return. If there are no such
// variables, it returns nil at once.
func Cleanse() error {
	var kept, moved []string
	for _, entry := range os.Environ() {
		if secret(entry) {
			moved = append(moved, entry+"\x00")
		} else {
			kept = append(kept, entry)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	fd, err := unix.MemfdCreate("connfs-environment", 0)
	if err != nil {
		return fmt.Errorf("moving variables out of the environment: %w", err)
	}
	text := []byte(strings.Join(moved, ""))
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil {
			return fmt.Errorf("moving variables out of the environment: %w", err)
		}
		text = text[n:]
	}
	kept = append(kept, environmentFD+"="+strconv.Itoa(fd))
	err = unix.Exec("/proc/self/exe", os.Args, kept)
	return fmt.Errorf("executing connfs again: %w", err)
}

// environment is the environment that the process was started with. What may be secret lies in
// locked memory, masked with random bytes, so that the memory of a daemon never holds a value as
// it is.
type environment struct {
	masked, pad *cache.Region // nil: nothing is secret
	plain       []byte        // each entry ends with a NUL
}

// loadEnvironment returns what Cleanse put aside, and the rest. Where Cleanse did not run,
// nothing is masked: a command that ends soon need not hide its environment from itself.
func loadEnvironment() (*environment, error) {
	e := &environment{}
	name := os.Getenv(environmentFD)
	_ = os.Unsetenv(environmentFD) // fails only for names that are empty or hold "="
	for _, entry := range os.Environ() {
		e.plain = append(append(e.plain, entry...), 0)
	}
	fd, err := strconv.Atoi(name)
	if err != nil {
		return e, nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("reading the environment from descriptor %d: %w", fd, err)
	}
	if e.masked, err = cache.NewRegion(int(st.Size)); err != nil {
		return nil, err
	}
	if e.pad, err = cache.NewRegion(int(st.Size)); err != nil {
		return nil, err
	}
	text := e.masked.Bytes()
	for at := 0; at < len(text); {
		n, err := unix.Pread(fd, text[at:], int64(at))
		if err != nil || n == 0 {
			return nil, fmt.Errorf("reading the environment from descriptor %d: %d of %d bytes: %v",
				fd, at, len(text), err)
		}
		at += n
	}
	rand.Read(e.pad.Bytes())
	subtle.XORBytes(text, text, e.pad.Bytes())
	return e, nil
}

// lockError returns why the masked part is not locked in memory.
func (e *environment) lockError() error {
	if e.masked == nil {
		return nil
	}
	return errors.Join(e.masked.LockError(), e.pad.LockError())
}

// block returns the whole environment for a child, in locked memory that the caller closes.
func (e *environment) block() (*cache.Region, error) {
	n := len(e.plain)
	if e.masked != nil {
		n += len(e.masked.Bytes())
	}
	r, err := cache.NewRegion(n)
	if err != nil {
		return nil, err
	}
	at := copy(r.Bytes(), e.plain)
	if e.masked != nil {
		subtle.XORBytes(r.Bytes()[at:], e.masked.Bytes(), e.pad.Bytes())
	}
	return r, nil
}

// childEnvironment returns the environment of a child's process. What may be secret reaches it
// on its pipe instead, and it must not be able to speak to the service manager in the daemon's
// name.
func childEnvironment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
			"WATCHDOG_USEC", "WATCHDOG_PID", environmentFD:
			continue
		}
		if !secret(entry) {
			kept = append(kept, entry)
		}
	}
	return kept
}

// Service reports whether a service manager started this very process. The variables of one are in
// the environment of a shell too, where that runs in a terminal that is a service.
func Service() bool {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		return true
	}
	pid, ok := os.LookupEnv("SYSTEMD_EXEC_PID")
	return os.Getenv("INVOCATION_ID") != "" && (!ok || pid == strconv.Itoa(os.Getpid()))
}
