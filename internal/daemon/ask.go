package daemon

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/internal/process"
)

// AskCommand is the command of this binary that asks a file system whether it answers. No help
// shows it.
const AskCommand = "ask-file-system"

// answerTime is how long a file system has to answer.
const answerTime = 10 * time.Second

// errNoAnswer is the outcome for a file system that did not answer in time.
var errNoAnswer = fmt.Errorf("no answer within %v", answerTime)

// Ask asks the file system at path whether it answers. It returns 0, or the error number. It may
// hang for ever.
func Ask(path string) int {
	var st unix.Statfs_t
	var number syscall.Errno
	errors.As(unix.Statfs(path, &st), &number)
	return int(number)
}

// ask is [Ask] in a process of its own, which is left alone where the file system does not answer
// in time: not even SIGKILL ends a process whose request a stopped daemon has taken.
func ask(path string) error {
	cmd := exec.Command("/proc/self/exe", AskCommand, path)
	cmd.Args[0], cmd.Dir, cmd.Env = "connfs", "/", []string{}
	if err := process.Start(cmd); err != nil {
		return fmt.Errorf("asking the file system: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- process.Wait(cmd) }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return syscall.Errno(exit.ExitCode())
		}
		return err
	case <-time.After(answerTime):
		_ = cmd.Process.Kill() // it may not even help
		return errNoAnswer
	}
}
