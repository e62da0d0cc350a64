package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/harden"
)

// Config describes a [Pool].
type Config struct {
	Command Command
	Cache   *cache.Cache // in whose locked pages the values are put
	Key     []byte       // of the digest; 32 bytes
	// Blob is the settings for the children, as Configure returned them. It lies in
	// locked memory and must stay there until Close.
	Blob []byte
	// Epoch is how long a child lives after its first answer. It is also the longest time
	// that plaintext stays in a child's memory after a read.
	Epoch time.Duration
	// Timeout bounds one request, all its repetitions included.
	Timeout time.Duration
	// Concurrency bounds the requests under way; more of them wait. 0 means 256: while an
	// outage holds up the fetches of a dozen users, there must be places for others.
	Concurrency int
	Log         *slog.Logger // nil: the default logger
}

// Pool keeps a child for the present requests and a spare for the next epoch, so that no
// read waits for a process to start.
type Pool struct {
	cfg   Config
	limit chan struct{}

	mu      sync.Mutex
	current *child
	spare   *child
	all     map[*child]bool
	failed  time.Time     // when the last attempt failed to start a spare
	active  int           // requests under way, and those that wait for their turn
	quiet   chan struct{} // not nil: the pool drains; closed when active is 0
	closed  bool

	starts sync.WaitGroup // children that are being started, which need cfg.Blob

	identity identity
	state    harden.State // of the first child
}

// State returns what protects the children.
func (p *Pool) State() harden.State { return p.state }

// NewPool starts the first child and returns when the child says that it works, or its
// reason why it does not.
func NewPool(ctx context.Context, cfg Config) (*Pool, error) {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 256
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	p := &Pool{cfg: cfg, limit: make(chan struct{}, cfg.Concurrency), all: make(map[*child]bool)}
	var a answer
	c, err := p.start(ctx)
	if err == nil {
		a, err = c.ask(ctx, Frame{Op: OpReady})
	}
	if err == nil && !a.header.OK {
		err = DecodeFailure(a.header, a.meta)
	}
	if err != nil {
		p.Close()
		switch {
		case errors.Is(err, errGone):
			err = conn.Errorf(conn.Failed, "", "the resolver child ended while it started up")
		case ctx.Err() != nil:
			err = conn.Errorf(conn.Timeout, "", "the resolver child did not start up in time")
		}
		return nil, err
	}
	if err := json.Unmarshal(a.meta, &p.state); err != nil {
		p.Close()
		return nil, conn.Errorf(conn.Failed, "", "the resolver child's answer is not readable")
	}
	p.mu.Lock()
	p.spare = c
	p.mu.Unlock()
	return p, nil
}

// ErrClosed is the failure of a request that Close cuts off, or that comes after it, and of one
// that would need a new child while the pool drains.
var ErrClosed error = conn.Errorf(conn.Failed, "", "the resolver has been shut down")

// start starts a child without making it the current one or the spare.
func (p *Pool) start(ctx context.Context) (*child, error) {
	p.mu.Lock()
	if p.closed || p.quiet != nil {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	p.starts.Add(1)
	p.mu.Unlock()
	defer p.starts.Done()
	c, err := startChild(ctx, &p.cfg, p.firstAnswer, p.died)
	if err != nil {
		return nil, err
	}
	if err := p.identity.give(ctx, c); err != nil {
		go c.proc.Kill()
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		go c.proc.Kill()
		return nil, ErrClosed
	}
	// A child that has died already was removed from p.all before it was in it, and must
	// not be added now.
	if !c.alive() {
		return nil, errGone
	}
	p.all[c] = true
	return c, nil
}

// acquire returns the child for a request, and has a new spare made if it takes the spare.
func (p *Pool) acquire(ctx context.Context) (*child, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if p.current == nil {
		p.current, p.spare = p.spare, nil
		go p.refill()
	}
	c := p.current
	p.mu.Unlock()
	if c != nil {
		return c, nil
	}
	// There is no spare: this request starts a child of its own.
	c, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.all[c]: // it died meanwhile, as the request will notice
		return c, nil
	case p.current == nil:
		p.current = c
	case p.spare == nil:
		p.spare = c
	default: // other requests did the same, and there are enough children
		go c.proc.Kill()
	}
	return p.current, nil
}

// refill makes a spare if there is no spare. If it cannot be started, the next request
// tries again: there is no loop.
//
// This and acquire are not single flights: a request may need a child while a spare is still
// starting. So each starts its own, and keeps it only if there is still a place for it.
func (p *Pool) refill() {
	p.mu.Lock()
	if p.spare != nil || p.closed || p.quiet != nil || time.Since(p.failed) < time.Second {
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timeout)
	defer cancel()
	c, err := p.start(ctx)
	if !p.keepSpare(c, err) {
		p.cfg.Log.Error("no spare resolver child", "error", err)
	}
}

// keepSpare makes c the spare, if there is a place for it. It reports false if c could not be
// started, for the reason err.
func (p *Pool) keepSpare(c *child, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || p.quiet != nil:
		if c != nil {
			go c.proc.Kill()
		}
	case err != nil:
		p.failed = time.Now()
		return false
	case !p.all[c]: // it died meanwhile
	case p.spare == nil:
		p.spare = c
	default:
		go c.proc.Kill()
	}
	return true
}

// window is how long a child takes new requests after its first answer. The rest of the
// epoch is for the requests that are under way.
func (p *Pool) window() time.Duration { return p.cfg.Epoch - min(p.cfg.Epoch/5, time.Second) }

// firstAnswer starts the clock of a child: from now on it may hold plaintext.
func (p *Pool) firstAnswer(c *child) {
	time.AfterFunc(p.cfg.Epoch, c.proc.Kill)
	time.AfterFunc(p.window(), func() { p.retire(c) })
	time.AfterFunc(p.window()*3/4, func() {
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timeout)
		defer cancel()
		p.handOver(ctx, c)
		// While reads go on, the next child should have logged in before it is needed. A
		// single read is not a reason to keep a connection to the database open.
		if c.requests() > 1 {
			p.warmSpare(ctx)
		}
	})
}

func (p *Pool) retire(c *child) {
	p.mu.Lock()
	if p.current == c {
		p.current = nil
	}
	p.mu.Unlock()
}

func (p *Pool) warmSpare(ctx context.Context) {
	p.mu.Lock()
	c := p.spare
	p.mu.Unlock()
	if c == nil {
		return
	}
	// If it fails, the first request that needs a connection says why.
	_, _ = c.ask(ctx, Frame{Op: OpWarm, Timeout: p.cfg.Timeout})
}

// died forgets a child whose pipe ended: because it was killed at the end of its epoch, or
// by accident.
func (p *Pool) died(c *child) {
	p.mu.Lock()
	delete(p.all, c)
	spare := p.spare == c
	if spare {
		p.spare = nil
	}
	if p.current == c {
		p.current = nil
	}
	p.mu.Unlock()
	// If it did not even start up, the next request tries again: there is no loop.
	if spare && time.Since(c.began) > time.Second {
		go p.refill()
	}
}

// do sends a frame to a child and returns its answer. A request that is cut off by the end of an
// epoch, or because the child was too late with another request, is repeated on the next child, on
// a very slow machine more than once. A request whose child ended by accident is repeated once.
// This is not package retry: the next child is asked at once, with nothing to wait for.
func (p *Pool) do(ctx context.Context, f Frame) (answer, error) {
	return p.doWithin(ctx, f, p.cfg.Timeout)
}

// doWithin is do with another deadline.
func (p *Pool) doWithin(ctx context.Context, f Frame, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p.begin()
	defer p.end()
	select {
	case p.limit <- struct{}{}:
		defer func() { <-p.limit }()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return answer{}, conn.Errorf(conn.Interrupted, "",
				"nobody waits for the answer any more")
		}
		return answer{}, conn.Errorf(conn.Timeout, "", "too many fetches under way")
	}
	for try := 0; ; try++ {
		deadline, _ := ctx.Deadline()
		// The child gives up a little earlier, so that its answer, which names
		// the backend, comes before ours.
		left := time.Until(deadline)
		f.Timeout = left - min(left/20, 100*time.Millisecond)
		var a answer
		c, err := p.acquire(ctx)
		if err == nil {
			a, err = c.ask(ctx, f)
		}
		switch {
		case err == nil && !a.header.OK && try == 0 && a.outdated():
			continue
		case err == nil && !a.header.OK:
			return answer{}, DecodeFailure(a.header, a.meta)
		case err == nil:
			return a, nil
		case errors.Is(err, errGone) && p.isClosed():
			return answer{}, ErrClosed
		case errors.Is(err, errGone) &&
			(try == 0 || c != nil && c.expected(p.cfg.Epoch)):
			// The pool may not have noticed its end yet, and must not choose it again.
			p.retire(c)
			continue
		case errors.Is(err, errGone):
			return answer{}, conn.Errorf(conn.Failed, "",
				"the resolver child ended twice before it answered")
		case errors.Is(err, context.DeadlineExceeded):
			// A child that works would have said so itself, with the backend's name.
			if c != nil {
				p.retire(c)
				c.giveUp()
			}
			return answer{}, conn.Errorf(conn.Timeout, "", "no answer within the deadline")
		case errors.Is(err, context.Canceled):
			return answer{}, conn.Errorf(conn.Interrupted, "",
				"nobody waits for the answer any more")
		default:
			return answer{}, err
		}
	}
}

// Get resolves id and returns its rendering as a value of the cache, and where it comes from.
// What it costs, and a failure, are charged to the user uid. The value is pinned for the caller
// and not committed. The error is a *conn.Error.
func (p *Pool) Get(
	ctx context.Context, uid uint32, id string, format conn.Format,
) (*cache.Value, Origin, error) {
	a, err := p.do(ctx, Frame{Op: OpGet, Caller: uid, Meta: []byte(format), Body: []byte(id)})
	if err != nil {
		return nil, Origin{}, err
	}
	if a.value == nil {
		return nil, Origin{}, conn.Errorf(conn.Failed, "",
			"the resolver answered without a value")
	}
	origin, err := decodeOrigin(a.meta, id)
	if err != nil {
		a.value.Release()
		return nil, Origin{}, err
	}
	return a.value, origin, nil
}

// Explain returns what each backend of the path answers for id, in order.
func (p *Pool) Explain(ctx context.Context, id string) ([]Answer, error) {
	a, err := p.do(ctx, Frame{Op: OpExplain, Body: []byte(id)})
	if err != nil {
		return nil, err
	}
	return decodeAnswers(a.meta)
}

// List returns the ids that the backends hold.
func (p *Pool) List(ctx context.Context) (*Listing, error) {
	a, err := p.do(ctx, Frame{Op: OpList})
	if err != nil {
		return nil, err
	}
	return DecodeListing(a.meta, a.body)
}

// dagsTimeout bounds the reading of serialized DAGs, of which there may be thousands.
const dagsTimeout = time.Minute

// DAGs returns the rows of the metastore's serialized DAGs. A row whose revision is
// known[key] is only said to be unchanged. A separate child reads them: that may take longer
// than an epoch, and no document stays in the memory of the other children.
func (p *Pool) DAGs(ctx context.Context, known map[string]string) ([]DAGRow, error) {
	body, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	a, err := p.alone(ctx, Frame{Op: OpDAGs, Timeout: dagsTimeout, Body: body},
		"reading serialized DAGs")
	if err != nil {
		return nil, err
	}
	var rows []DAGRow
	if err := json.Unmarshal(a.body, &rows); err != nil {
		return nil, conn.Errorf(conn.Failed, "", "the resolver's answer about DAGs is not readable")
	}
	return rows, nil
}

// Children returns the process ids of the children that are alive.
func (p *Pool) Children() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pids []int
	for c := range p.all {
		pids = append(pids, c.proc.cmd.Process.Pid)
	}
	return pids
}

// Expire kills the children whose epoch ended while the machine was suspended, when no timer ran.
func (p *Pool) Expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.all {
		if c.expected(p.cfg.Epoch) {
			go c.proc.Kill()
		}
	}
}

// begin counts a request.
func (p *Pool) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active++
}

// end is the end of a request.
func (p *Pool) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active--; p.active == 0 && p.quiet != nil && !p.closed {
		close(p.quiet)
		p.closed = true
	}
}

func (p *Pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Drain waits until the requests under way have ended, until ctx ends at the latest, and closes the
// pool. The children that none of them needs end at once, and no other is started.
func (p *Pool) Drain(ctx context.Context) {
	p.mu.Lock()
	p.quiet = make(chan struct{})
	spare := p.spare
	p.spare = nil
	if p.active == 0 {
		close(p.quiet)
		p.closed = true
	}
	p.mu.Unlock()
	if spare != nil {
		spare.proc.Kill()
	}
	select {
	case <-p.quiet:
	case <-ctx.Done():
	}
	p.Close()
}

// Close kills every child. Every later request fails with [ErrClosed]. When it returns, nothing
// needs the settings any more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	var all []*child
	for c := range p.all {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		c.proc.Kill()
	}
	p.starts.Wait()
	p.identity.close()
}
