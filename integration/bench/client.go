package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clientCommand runs this program as the reader.
const clientCommand = "as-the-reader"

// question is what the reader is asked to do.
type question struct {
	Paths   []string      // opened, read and closed
	AtOnce  bool          // all at once; else one after the other
	Patient time.Duration // the one path is tried for so long
}

// answer is the result of a question.
type answer struct {
	// Times is how long each path took. For a patient question it is the moment of success
	// on the monotonic clock.
	Times  []time.Duration
	Errors []string
}

// client is a process of the reader's.
type client struct {
	b   *bench
	pid int
	in  *json.Encoder
	out *json.Decoder
}

// client starts such a process.
func (b *bench) client() *client {
	cmd := exec.Command(b.self, clientCommand)
	cmd.SysProcAttr, cmd.Stderr = asReader(), os.Stderr
	in, err := cmd.StdinPipe()
	b.must(err)
	out, err := cmd.StdoutPipe()
	b.must(err)
	b.must(cmd.Start())
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return &client{b, cmd.Process.Pid, json.NewEncoder(in), json.NewDecoder(out)}
}

// send asks without waiting for the answer.
func (c *client) send(q question) { c.b.must(c.in.Encode(q)) }

// receive waits for the answer.
func (c *client) receive() answer {
	var a answer
	c.b.must(c.out.Decode(&a))
	if len(a.Errors) > 0 {
		c.b.Fatalf("%d reads failed, the first: %s", len(a.Errors), a.Errors[0])
	}
	return a
}

func (c *client) ask(q question) answer {
	c.send(q)
	return c.receive()
}

func clientMain() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q question
		if in.Decode(&q) != nil {
			return
		}
		if out.Encode(q.do()) != nil {
			return
		}
	}
}

func (q *question) do() answer {
	a := answer{Times: make([]time.Duration, len(q.Paths))}
	var mu sync.Mutex
	read := func(i int) {
		t, err := q.read(q.Paths[i])
		mu.Lock()
		defer mu.Unlock()
		a.Times[i] = t
		if err != nil {
			a.Errors = append(a.Errors, err.Error())
		}
	}
	if !q.AtOnce {
		for i := range q.Paths {
			read(i)
		}
		return a
	}
	debug.SetMaxThreads(2*len(q.Paths) + 1000)
	var readers sync.WaitGroup
	for i := range q.Paths {
		readers.Go(func() { read(i) })
	}
	readers.Wait()
	return a
}

func (q *question) read(path string) (time.Duration, error) {
	began := time.Now()
	for {
		err := readOnce(path)
		switch {
		case err == nil && q.Patient > 0:
			return monotonic(), nil
		case err == nil || time.Since(began) >= q.Patient:
			return time.Since(began), err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func readOnce(path string) error {
	fd, err := again(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := again(func() (int, error) { return unix.Read(fd, buf[:]) })
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// again calls f until no signal of Go's own runtime interrupts it.
func again(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); err != unix.EINTR {
			return n, err
		}
	}
}

// monotonic is the time on a clock that all processes share.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // the clock is always there
	}
	return time.Duration(t.Nano())
}
