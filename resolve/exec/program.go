package exec

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/resolve/backend"
)

// silence is how long a program that owes answers may say nothing once a reader's
// time is up. After that it hangs.
const silence = time.Second

// program is a running program.
type program struct {
	process *os.Process
	stdin   *os.File
	stdout  *os.File
	writing chan struct{} // holds one token: who takes it writes
	ready   chan struct{} // closed when the handshake is done, or the program gone
	gone    chan struct{} // closed when the program is gone, and its pipes are closed

	mu      sync.Mutex
	waiting map[uint64]chan<- *answer
	last    uint64    // the number of the last request
	owing   time.Time // since when nothing was heard that is owed; zero: nothing is
	spoke   bool      // it answered something beside the handshake
	able    []string
	err     error // why it is ended
	reaped  bool  // its process number may be another's by now
}

// start starts a program and begins the handshake.
func start(command, environment []string) (*program, error) {
	path, err := checkFiles(command)
	if err != nil {
		return nil, err
	}
	var files [6]*os.File
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	for i := 0; i < len(files); i += 2 {
		if files[i], files[i+1], err = os.Pipe(); err != nil {
			closeAll()
			return nil, startError(err)
		}
	}
	cmd := &exec.Cmd{
		Path: path, Args: command, Dir: "/", Stdin: files[0], Stdout: files[3], Stderr: files[5],
		Env: environment,
		// A group of its own, so that what it starts can be ended with it, and its end
		// with ours, however that comes.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	p := &program{
		stdin: files[1], stdout: files[2], writing: make(chan struct{}, 1),
		ready: make(chan struct{}), gone: make(chan struct{}),
		waiting: make(map[uint64]chan<- *answer),
	}
	p.writing <- struct{}{}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		// The program dies with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		// While it is not waited for, its number is no other's, and all that it started
		// can be ended with it.
		const waitForEnd = unix.WEXITED | unix.WNOWAIT
		for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, waitForEnd, nil) == unix.EINTR {
		}
		p.end(conn.Errorf(conn.Unreachable, source, "the program ended"))
		p.mu.Lock()
		p.reaped = true
		p.mu.Unlock()
		_ = cmd.Wait() // how it ended matters to nobody
		close(ended)
	}()
	if err := <-started; err != nil {
		closeAll()
		return nil, startError(err)
	}
	files[0].Close()
	files[3].Close()
	files[5].Close()

	var readers sync.WaitGroup
	readers.Go(p.read)
	readers.Go(func() { logErrors(files[4]); files[4].Close() })
	go func() {
		<-ended
		// What left its group may hold its pipes open.
		_ = files[4].SetReadDeadline(time.Now().Add(lastWords))
		_ = p.stdout.SetReadDeadline(time.Now().Add(lastWords))
		readers.Wait()
		p.stdin.Close()
		p.stdout.Close()
		close(p.gone)
	}()
	go p.shakeHands()
	return p, nil
}

// lastWords is how long output is read after the end of a program.
const lastWords = 100 * time.Millisecond

func startError(err error) error {
	e := &conn.Error{Kind: conn.Unreachable, Source: source,
		Reason: "the program cannot be started: " + backend.FileReason(err), Err: err}
	if errors.Is(err, os.ErrPermission) {
		e.Kind = conn.Denied
	}
	return e
}

// end kills the program and all that it started. The first reason counts.
func (p *program) end(reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = reason
	}
	if !p.reaped {
		_ = syscall.Kill(-p.process.Pid, syscall.SIGKILL)
	}
}

func (p *program) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *program) answered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spoke
}

// shakeHands asks for the version, which every other request waits for.
func (p *program) shakeHands() {
	defer close(p.ready)
	a, err := p.exchange(context.Background(), request{Op: "hello", Version: protocolVersion})
	if err != nil {
		return
	}
	able, err := a.hello()
	if err != nil {
		p.end(err)
		return
	}
	p.mu.Lock()
	p.able = able
	p.mu.Unlock()
}

// can reports whether the program answers an operation.
func (p *program) can(ctx context.Context, op string) (bool, error) {
	if err := p.handshake(ctx); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.able, op), nil
}

func (p *program) handshake(ctx context.Context) (err error) {
	done := network.Connecting(ctx)
	defer func() { done(err) }()
	select {
	case <-p.ready:
		return p.reason()
	case <-p.gone:
		return p.reason()
	case <-ctx.Done():
		return p.giveUp(ctx)
	}
}

// ask makes a request and waits for the answer.
func (p *program) ask(ctx context.Context, r request) (*answer, error) {
	if err := p.handshake(ctx); err != nil {
		return nil, err
	}
	a, err := p.exchange(ctx, r)
	if err == nil {
		p.mu.Lock()
		p.spoke = true
		p.mu.Unlock()
	}
	return a, err
}

func (p *program) exchange(ctx context.Context, r request) (*answer, error) {
	answer := make(chan *answer, 1)
	p.mu.Lock()
	p.last++
	r.N = p.last
	p.waiting[r.N] = answer
	if p.owing.IsZero() {
		p.owing = time.Now()
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, r.N)
		p.mu.Unlock()
	}()
	if err := p.write(ctx, r.line()); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-p.gone:
		return nil, p.reason()
	case <-ctx.Done():
		return nil, p.giveUp(ctx)
	}
}

// write sends a line, whole or not at all: half of one would spoil the next.
func (p *program) write(ctx context.Context, line []byte) error {
	select {
	case <-p.writing:
	case <-p.gone:
		return p.reason()
	case <-ctx.Done():
		return p.giveUp(ctx)
	}
	defer func() { p.writing <- struct{}{} }()
	deadline, _ := ctx.Deadline()
	_ = p.stdin.SetWriteDeadline(deadline)
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = p.stdin.SetWriteDeadline(time.Now())
		close(late)
	})
	n, err := p.stdin.Write(line)
	if !stop() {
		<-late // or it would end the next one's time
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && n == 0:
		return p.giveUp(ctx)
	case ctx.Err() != nil:
		p.end(conn.Errorf(conn.Timeout, source, "the program does not read its requests"))
		return backend.ContextError(source, ctx.Err())
	}
	p.end(conn.Errorf(conn.Unreachable, source, "the program ended, or closed its standard input"))
	return p.reason()
}

// giveUp is what a caller does whose time is up: a program that has been silent for
// long is ended, so that the next caller finds another one.
func (p *program) giveUp(ctx context.Context) error {
	p.mu.Lock()
	silent := !p.owing.IsZero() && time.Since(p.owing) >= silence
	p.mu.Unlock()
	if silent && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.end(conn.Errorf(conn.Timeout, source, "the program does not answer"))
	}
	return backend.ContextError(source, ctx.Err())
}

// read takes answers until the program's output ends.
func (p *program) read() {
	defer func() { p.end(conn.Errorf(conn.Unreachable, source, "the program ended")) }()
	lines := bufio.NewReaderSize(p.stdout, 64<<10)
	for {
		line, err := readLine(lines, maxLine)
		if errors.Is(err, errLongLine) {
			p.end(breach("a line is longer than 8 MiB"))
			return
		}
		if err != nil {
			return
		}
		a, err := parseAnswer(line)
		if err == nil {
			err = p.deliver(a)
		}
		if err != nil {
			p.end(err)
			return
		}
	}
}

// deliver hands an answer to who waits for it. One that came too late is dropped.
func (p *program) deliver(a *answer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.n == 0 || a.n > p.last {
		return breach("an answer has a number that no request had")
	}
	answer := p.waiting[a.n]
	delete(p.waiting, a.n)
	p.owing = time.Time{}
	if len(p.waiting) > 0 {
		p.owing = time.Now()
	}
	if answer != nil {
		answer <- a
	}
	return nil
}

var errLongLine = errors.New("the line is too long")

// readLine returns a line without its end. A last line without an end does not count.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit+1 {
			return nil, errLongLine
		}
		line = append(line, part...)
		if err == nil {
			return line[:len(line)-1], nil
		}
		if err != bufio.ErrBufferFull {
			return nil, io.EOF
		}
	}
}
