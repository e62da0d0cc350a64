// Package boottime tells time by a clock that runs on while the machine is suspended. Go's own
// timers, and the difference of two results of time.Now, stop meanwhile, so that by them a value
// of yesterday evening would be seconds old in the morning.
package boottime

import (
	"context"
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Elapsed returns how long the machine has been running, suspended or not. It is the same for
// all processes.
func Elapsed() time.Duration { return read(unix.CLOCK_BOOTTIME) }

func read(clock int32) time.Duration {
	var t unix.Timespec
	// It never blocks, so the scheduler need not know. Both clocks are always there.
	unix.RawSyscallNoError(unix.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

// Now returns time.Now moved on by the time for which the machine was suspended. Only the
// difference between two results means anything.
func Now() time.Time { return time.Now().Add(suspended()) }

// Since returns the time since t, a result of Now.
func Since(t time.Time) time.Duration { return Now().Sub(t) }

// suspended returns for how long the machine was suspended so far, in whole milliseconds.
func suspended() time.Duration {
	for {
		before := read(unix.CLOCK_MONOTONIC)
		elapsed := read(unix.CLOCK_BOOTTIME)
		// Both were read at the same moment, or nearly.
		if read(unix.CLOCK_MONOTONIC)-before < time.Millisecond/2 {
			return (elapsed - before).Truncate(time.Millisecond)
		}
	}
}

// Resumed returns a channel that receives, until ctx ends, after the machine was suspended.
func Resumed(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	context.AfterFunc(ctx, func() { timer.Close() })
	c := make(chan struct{}, 1)
	go func() {
		for last := suspended(); ; {
			if !awaitJump(timer) {
				return
			}
			// Somebody may just have set the clock.
			if now := suspended(); now != last {
				last = now
				select {
				case c <- struct{}{}:
				default: // it has yet to be received
				}
			}
		}
	}()
	return c, nil
}

// awaitJump waits until the real time jumps, as it does when the machine wakes up: the kernel
// cancels timers that ask for it. It returns false if timer is closed.
func awaitJump(timer *os.File) bool {
	const never = 1 << 40 // seconds since 1970
	raw, err := timer.SyscallConn()
	if err != nil {
		return false
	}
	if failed := raw.Control(func(fd uintptr) {
		err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET,
			&unix.ItimerSpec{Value: unix.Timespec{Sec: never}}, nil)
	}); failed != nil || err != nil {
		return false
	}
	var count [8]byte
	_, err = timer.Read(count[:])
	return errors.Is(err, unix.ECANCELED)
}
