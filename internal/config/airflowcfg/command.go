package airflowcfg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/connfs/connfs/internal/python"
)

// commandTimeout is how long a _cmd may take. Airflow has no limit.
const commandTimeout = 10 * time.Second

// run executes a _cmd as Airflow does: the line is split into words as a shell does, but
// no shell runs it, and its standard output is the value, without bytes that are not UTF-8.
// It runs with the AIRFLOW* variables, PATH and HOME of env, and nothing else: those who
// write an airflow.cfg must not get what belongs to connfs alone (its cloud identity, the
// sockets of its service manager). Errors name the program, and never show its arguments
// or its output.
func run(ctx context.Context, line string, env []string) (string, error) {
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
	cmd.Env = commandEnv(env)
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

// commandEnv returns the variables of env that a _cmd gets.
func commandEnv(env []string) []string {
	kept := []string{}
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "AIRFLOW") || name == "PATH" || name == "HOME" {
			kept = append(kept, entry)
		}
	}
	return kept
}

// cause returns only the system's reason: the error of os/exec repeats the path.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
