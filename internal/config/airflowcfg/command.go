package airflowcfg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/connfs/connfs/internal/python"
)

// commandTimeout is how long a _cmd may take. Airflow has no limit.
const commandTimeout = 10 * time.Second

// run executes a _cmd as Airflow does: the line is split into words as a shell does, but
// no shell runs it, and its standard output is the value, without bytes that are not UTF-8.
// Its program is found in the PATH of env, and its own variables are environment. Errors name
// the program, and never show its arguments or its output.
func run(ctx context.Context, line string, env, environment []string) (string, error) {
	words, err := python.ShlexSplit(line)
	if err != nil {
		return "", err
	}
	if len(words) == 0 {
		return "", errors.New("the command is empty")
	}
	program, err := findProgram(words[0], env)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()

	out := limited{overflow: cancel}
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = words
	cmd.Env = environment
	cmd.Stdout = &out
	// A process group of its own, so that the deadline also ends what the command started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case out.full:
		return "", fmt.Errorf("the command %q printed more than %d bytes", words[0], maxText)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf("the command %q did not end within %v", words[0], commandTimeout)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		return "", fmt.Errorf("the command %q ended with %v", words[0], exit.ProcessState)
	case err != nil:
		return "", fmt.Errorf("the command %q could not be run: %v", words[0], cause(err))
	}
	return strings.ToValidUTF8(out.kept.String(), ""), nil
}

// limited keeps up to maxText bytes, and ends a command that writes more.
// The buffer is not embedded: its ReadFrom would evade the limit.
type limited struct {
	kept     bytes.Buffer
	overflow func()
	full     bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.kept.Len()+len(p) > maxText {
		l.full = true
		l.overflow()
		return 0, errors.New("too much output")
	}
	return l.kept.Write(p)
}

// findProgram looks up a program in the PATH of env, not in that of this process.
func findProgram(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, ok := lookup(env)("PATH")
	if !ok {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	for _, dir := range filepath.SplitList(path) {
		program := filepath.Join(dir, name)
		if !filepath.IsAbs(program) {
			continue
		}
		info, err := os.Stat(program)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return program, nil
		}
	}
	return "", fmt.Errorf("the command %q is not in PATH", name)
}

// narrow returns the variables of env that a _cmd of a file gets: those of Airflow, PATH and
// HOME. Those who write an airflow.cfg must not get what belongs to connfs alone, such as its
// cloud identity.
func narrow(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !strings.HasPrefix(name, "AIRFLOW") && name != "PATH" && name != "HOME"
	})
}

// whole returns the variables of env that a _CMD of a variable gets, which is all that
// Airflow would give it: who set the variable set the others too. Only what the service
// manager gave to this process alone is left out.
func whole(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "LISTEN_") ||
			strings.HasPrefix(name, "WATCHDOG_")
	})
}

// cause returns only the system's reason: the error of os/exec repeats the path.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
