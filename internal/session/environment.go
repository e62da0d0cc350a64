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

// environmentFD names the descriptor from which a re-executed daemon reads the
// variables that it was started with.
const environmentFD = "CONNFS_ENVIRONMENT_FD"

// secret reports whether a variable belongs to Airflow, or to the login of a backend:
// such a one may be a connection or a key.
func secret(entry string) bool {
	return strings.HasPrefix(entry, "AIRFLOW_") || settings.Login(entry)
}

// Cleanse moves the variables that may be secrets out of the environment of a process that will
// live long: what a process was started with stays readable in its memory for ever.
// It puts them into a descriptor and executes this binary anew without them, and
// does not return then. Where there are none it returns nil at once.
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
	return fmt.Errorf("executing connfs anew: %w", err)
}

// environment is what the process was started with: what may be secret in locked
// memory and under a mask of random bytes, so that for as long as the daemon runs no
// value is in its memory as it is; the rest plain.
type environment struct {
	masked, pad *cache.Region // nil: nothing is secret
	plain       []byte
}

// loadEnvironment takes what Cleanse left, if it ran, and else what is there: a
// command that ends soon need not hide its environment from itself.
func loadEnvironment() (*environment, error) {
	e := &environment{}
	name := os.Getenv(environmentFD)
	os.Unsetenv(environmentFD)
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
			return nil, fmt.Errorf("reading the environment from descriptor %d: %d of %d bytes: %v", fd, at, len(text), err)
		}
		at += n
	}
	rand.Read(e.pad.Bytes())
	subtle.XORBytes(text, text, e.pad.Bytes())
	return e, nil
}

// lockError says why the secret part is not locked.
func (e *environment) lockError() error {
	if e.masked == nil {
		return nil
	}
	return errors.Join(e.masked.LockError(), e.pad.LockError())
}

// block returns the whole environment block for a child, in locked memory that the
// caller closes.
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

// childEnvironment is the environment of the children's processes: none of what
// may be secret, which reaches them on the pipe, and nothing through which they
// could speak to the service manager in the daemon's name.
func childEnvironment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", environmentFD:
			continue
		}
		if !secret(entry) {
			kept = append(kept, entry)
		}
	}
	return kept
}
