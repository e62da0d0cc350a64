// Package process starts programs in a process that also gets children which it never started: as
// PID 1 of a container, or because it adopts what its children leave behind. It reaps those, and
// does not take the exit status of a program from who started it.
package process

import (
	"os/exec"
	"sync"
)

// started are the programs that Start started and nobody has waited for yet, by process id. mu is
// held over the start of one, so that nobody takes a program that has just ended for a stranger.
var (
	mu      sync.Mutex
	started = make(map[int]*exec.Cmd)
	held    int // how many functions of Hold run
)

// Start is cmd.Start. Whoever calls it has to call [Wait].
func Start(cmd *exec.Cmd) error {
	mu.Lock()
	defer mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	started[cmd.Process.Pid] = cmd
	return nil
}

// Wait is cmd.Wait, of a program that [Start] started.
func Wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	mu.Lock()
	defer mu.Unlock()
	if started[cmd.Process.Pid] == cmd { // else the number is another program's by now
		delete(started, cmd.Process.Pid)
	}
	return err
}

// Run is cmd.Run.
func Run(cmd *exec.Cmd) error {
	if err := Start(cmd); err != nil {
		return err
	}
	return Wait(cmd)
}

// Hold runs f, which starts and awaits programs without this package. Nothing is reaped meanwhile.
func Hold(f func()) {
	mu.Lock()
	held++
	mu.Unlock()
	defer func() {
		mu.Lock()
		held--
		mu.Unlock()
		reap()
	}()
	f()
}
