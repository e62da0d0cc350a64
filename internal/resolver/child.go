package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/process"
)

// Command says how a child is started.
type Command struct {
	Path string   // of the binary; "/proc/self/exe"
	Args []string // argv, its own name included
	Env  []string
	// Credential is the user that the child runs as; nil: the same as the front.
	Credential *syscall.Credential
	// Confine says what the child may do that no child needs.
	Confine harden.Confinement
	Log     *slog.Logger // of what the child writes to standard error; nil: the default logger
}

// Start starts the child's process with the ends of its pipes. The child is confined, and ends
// with the front.
func (c *Command) Start() (*Process, error) {
	process.Adopt()
	cmd := exec.Command(c.Path, c.Args[1:]...)
	cmd.Args, cmd.Env, cmd.Dir = c.Args, append([]string{}, c.Env...), "/"
	// A session of its own: it cannot reach a terminal, and Ctrl-C there is for the front. In a
	// PID namespace of its own the child has no parent, and Go then has it signal itself in vain.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.Credential, Setsid: true, Pdeathsig: syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	cmd.Stderr = writer
	if err := harden.Start(cmd, c.Confine); err != nil {
		stderr.Close()
		return nil, &conn.Error{
			Kind: conn.Failed, Reason: "no resolver child can be started: " + err.Error(), Err: err,
		}
	}
	log := c.Log
	if log == nil {
		log = slog.Default()
	}
	go relay(stderr, log.With("pid", cmd.Process.Pid))
	return &Process{
		In: in, Out: out, cmd: cmd, stderr: stderr, log: log, gone: make(chan struct{}),
	}, nil
}

// Process is a running child.
type Process struct {
	In  io.WriteCloser
	Out io.Reader

	cmd    *exec.Cmd
	stderr *os.File // the end of the front
	log    *slog.Logger
	once   sync.Once
	gone   chan struct{}
}

// endOrphans bounds the wait for what a child started.
const endOrphans = time.Second

// Kill ends the child and all that it started, and waits until the kernel has taken back the
// memory of the child.
func (p *Process) Kill() {
	p.once.Do(func() {
		// All three fail only if the child has ended by itself, or say that it was killed.
		_ = p.cmd.Process.Kill()
		_ = p.In.Close()
		_ = process.Wait(p.cmd)
		// Where the child has no PID namespace, what it started is the front's to end.
		if !process.EndOrphans(endOrphans) {
			p.log.Warn("what a resolver child started does not end")
		}
		_ = p.stderr.SetReadDeadline(time.Now().Add(lastWords))
		close(p.gone)
	})
	<-p.gone
}

// answer is the answer to a request.
type answer struct {
	header Header
	meta   []byte
	value  *cache.Value // the body, where it has a digest: in locked memory, pinned
	body   []byte       // any other body
	err    error        // there is no room for the value, or the child is gone
}

// outdated reports whether a failure lay in the pipe for so long that this process must have been
// stopped meanwhile. A value has its age, and whoever waits for it judges that.
func (a *answer) outdated() bool { return boottime.Elapsed()-a.header.Written > time.Second }

// errGone is the failure of a request whose child died, or was killed because its
// epoch was over, before it answered.
var errGone = errors.New("the resolver child is gone")

// request is a question that waits for its answer.
type request struct {
	op     Op
	answer chan<- answer
}

// child is a process that has been given the settings.
type child struct {
	proc  *Process
	cache *cache.Cache // where values go
	write sync.Mutex   // one frame at a time
	began time.Time

	mu       sync.Mutex
	waiting  map[uint64]request
	next     uint64
	dead     bool
	late     bool      // it was given up
	served   int       // requests so far that may bring plaintext into the child
	answered time.Time // when the first answer came, by boottime.Now

	onFirst func() // called once, at the first answer to a request
	onDead  func() // called once, when the pipe has ended
}

// startChild starts a process, gives it the settings and returns at once; requests
// queue in the pipe until the child has started up.
func startChild(
	ctx context.Context, cfg *Config, onFirst, onDead func(*child),
) (*child, error) {
	proc, err := cfg.Command.Start()
	if err != nil {
		return nil, err
	}
	c := &child{
		proc: proc, cache: cfg.Cache, began: time.Now(),
		waiting: make(map[uint64]request),
	}
	c.onFirst = func() { onFirst(c) }
	c.onDead = func() { onDead(c) }
	if err := c.send(ctx, &Frame{Op: OpInit, Meta: cfg.Key, Body: cfg.Blob}); err != nil {
		proc.Kill()
		return nil, err
	}
	go c.read()
	return c, nil
}

// ask sends a request and waits for its answer, for the context's end, or for the
// child's.
func (c *child) ask(ctx context.Context, f Frame) (answer, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return answer{}, errGone
	}
	c.next++
	f.ID = c.next
	c.waiting[f.ID] = request{f.Op, ch}
	if f.Op != OpWarm && f.Op != OpReady && f.Op != OpIdentity {
		c.served++
	}
	c.mu.Unlock()

	if err := c.send(ctx, &f); err != nil {
		c.forget(f.ID)
		return answer{}, err
	}
	select {
	case a := <-ch:
		return a, a.err
	case <-ctx.Done():
		if !c.forget(f.ID) {
			if a := <-ch; a.value != nil {
				a.value.Release()
			}
		}
		return answer{}, ctx.Err()
	}
}

// send writes a frame. A child that does not take it before ctx ends is killed: its pipe
// is full, and must block nobody beyond the deadline.
func (c *child) send(ctx context.Context, f *Frame) error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.proc.Kill)
	defer stop()
	if WriteFrame(c.proc.In, f) == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errGone
}

// alive reports whether the child's pipe is still open.
func (c *child) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.dead
}

// forget takes a request back. It reports false if the answer has already arrived.
func (c *child) forget(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.waiting[id]
	delete(c.waiting, id)
	return ok
}

// requests returns how many requests the child has been given.
func (c *child) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served
}

// giveUp kills a child that left a request without an answer.
func (c *child) giveUp() {
	c.mu.Lock()
	c.late = true
	c.mu.Unlock()
	go c.proc.Kill()
}

// expected reports whether the child's end was no accident: its epoch is over, or it was given up.
func (c *child) expected(epoch time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late || !c.answered.IsZero() && boottime.Since(c.answered) >= epoch
}

// read takes answers until the pipe ends.
func (c *child) read() {
	for {
		h, meta, err := ReadHeader(c.proc.Out)
		if err != nil {
			break
		}
		if err := c.check(h); err != nil {
			c.proc.log.Error("a resolver child is killed: it broke the protocol", "error", err)
			break
		}
		a := answer{header: h, meta: meta}
		// Only a body with a digest is secret, and goes into locked memory.
		if h.Digest != 0 {
			a.value, a.err = c.readValue(&h)
		} else if h.Body > 0 {
			a.body, err = readPart(c.proc.Out, h.Body, maxBody)
		}
		if err != nil || errors.Is(a.err, errGone) {
			break
		}
		c.deliver(h.ID, a)
	}
	c.mu.Lock()
	c.dead = true
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	for _, r := range waiting {
		r.answer <- answer{err: errGone}
	}
	c.onDead()
	c.proc.Kill()
}

// check fails if an answer is to no request of this child, or claims what no answer to its request
// can. Whoever made the request may have given up.
func (c *child) check(h Header) error {
	c.mu.Lock()
	asked, ok := c.waiting[h.ID]
	made := h.ID > 0 && h.ID <= c.next
	c.mu.Unlock()
	switch {
	case !made:
		return fmt.Errorf("an answer to request %d, which was never made", h.ID)
	case !ok:
		return h.check(OpIdentity) // which may claim the most
	}
	return h.check(asked.op)
}

func (c *child) deliver(id uint64, a answer) {
	c.mu.Lock()
	ch := c.waiting[id].answer
	delete(c.waiting, id)
	first := c.answered.IsZero() && c.served > 0
	if first {
		c.answered = boottime.Now()
	}
	c.mu.Unlock()
	if first {
		c.onFirst()
	}
	if ch != nil {
		ch <- a
	} else if a.value != nil {
		a.value.Release()
	}
}

// readValue reads the body of h by read(2) from the pipe straight into locked pages of the
// cache. The value is pinned for the request that gets the answer.
func (c *child) readValue(h *Header) (*cache.Value, error) {
	n := int(h.Body)
	v, err := c.cache.Reserve(n)
	if err != nil {
		if c.cache.Discard(n, c.proc.Out.Read) != nil {
			return nil, errGone
		}
		return nil, &conn.Error{
			Kind: conn.NoSlot, Reason: "every locked slot is in use by a reply under way",
		}
	}
	v.SetVersion(h.Digest)
	v.SetAge(boottime.Elapsed() - h.Written)
	for _, part := range v.Slices(0, n) {
		if _, err := io.ReadFull(c.proc.Out, part); err != nil {
			v.Release()
			return nil, errGone
		}
	}
	return v, nil
}

// Configure starts a child that reads the configuration as req says, with the environment
// block env. The child has ended when Configure returns. front is the front's part of the
// settings, in clear. body goes into the memory that keep returns.
//
// Where req.EUID is 0, the child keeps its capabilities at first: it reads files of root's and
// of others, and may become another user. If it is to go on as root and cannot drop them, it
// fails with SourceCapabilities, and Configure starts it once more, without them.
func Configure(
	ctx context.Context, cmd *Command, req *ConfigureRequest, env []byte,
	keep func(n int) ([]byte, error),
) (front, body []byte, err error) {
	if req.EUID == 0 {
		first := *cmd
		first.Confine.KeepCapabilities = true
		front, body, err = configure(ctx, &first, req, env, keep)
		if e, ok := asError(err); !ok || e.Source != SourceCapabilities {
			return front, body, err
		}
	}
	return configure(ctx, cmd, req, env, keep)
}

// configure asks one child.
func configure(
	ctx context.Context, cmd *Command, req *ConfigureRequest, env []byte,
	keep func(n int) ([]byte, error),
) (front, body []byte, err error) {
	question, err := json.Marshal(req)
	if err != nil {
		return nil, nil, err
	}
	proc, err := cmd.Start()
	if err != nil {
		return nil, nil, err
	}
	defer proc.Kill()
	stop := context.AfterFunc(ctx, proc.Kill)
	defer stop()
	if err := WriteFrame(proc.In, &Frame{Op: OpConfigure, Meta: question, Body: env}); err != nil {
		return nil, nil, configureFailed(ctx, err)
	}
	h, meta, err := ReadHeader(proc.Out)
	if err != nil {
		return nil, nil, configureFailed(ctx, err)
	}
	if !h.OK {
		return nil, nil, DecodeFailure(h, meta)
	}
	body, err = keep(int(h.Body))
	if err != nil {
		return nil, nil, err
	}
	if _, err := io.ReadFull(proc.Out, body); err != nil {
		return nil, nil, configureFailed(ctx, err)
	}
	return meta, body, nil
}

func configureFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return conn.Errorf(conn.Timeout, "",
			"reading the configuration took too long: a _cmd of airflow.cfg may hang")
	}
	slog.Debug("configuration child", "error", err)
	return conn.Errorf(conn.Failed, "",
		"the child that reads the configuration ended without an answer")
}
