package aws

import (
	"context"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

const (
	// batchSize is how many parameters one call can read.
	batchSize = 10
	// batchWindow is how long a look-up waits for company while another is under way.
	batchWindow = time.Millisecond
)

// batcher reads names one by one while nobody else reads, and together otherwise: a
// single look-up waits for nothing, and a hundred at once cost eleven calls.
type batcher struct {
	one  func(ctx context.Context, name string) (string, bool, error)
	many func(ctx context.Context, names []string) (map[string]string, error)

	mu       sync.Mutex
	underWay int
	open     *batch // nil: no batch takes more names
	// single says that many is refused where one is not: a policy may well grant
	// ssm:GetParameter alone, which is all that Airflow needs.
	single bool
}

// batch is names that are read together.
type batch struct {
	names    []string
	asked    map[string]bool
	waiting  int // callers
	deadline time.Time
	forever  bool               // a caller has no deadline
	cancel   context.CancelFunc // nil: not yet under way

	done   chan struct{}
	values map[string]batched
}

// batched is what became of one name.
type batched struct {
	text string
	ok   bool
	err  error
}

// get returns the text of a name, and false where nothing is stored under it.
func (b *batcher) get(ctx context.Context, name string) (string, bool, error) {
	b.mu.Lock()
	if b.underWay == 0 || b.single || !batchable(name) {
		b.underWay++
		b.mu.Unlock()
		defer b.ended()
		return b.one(ctx, name)
	}
	t := b.join(ctx, name)
	b.mu.Unlock()
	select {
	case <-t.done:
		v := t.values[name]
		return v.text, v.ok, v.err
	case <-ctx.Done():
		b.leave(t)
		return "", false, backend.ContextError("", ctx.Err())
	}
}

func (b *batcher) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay--
}

// join adds a caller to the open batch, which goes when it is full or its time is up.
// The caller holds the lock.
func (b *batcher) join(ctx context.Context, name string) *batch {
	t := b.open
	if t == nil {
		t = &batch{asked: make(map[string]bool), done: make(chan struct{})}
		b.open = t
		time.AfterFunc(batchWindow, func() {
			b.mu.Lock()
			if b.open == t {
				b.depart()
			}
			b.mu.Unlock()
		})
	}
	t.waiting++
	if deadline, ok := ctx.Deadline(); !ok {
		t.forever = true
	} else if deadline.After(t.deadline) {
		t.deadline = deadline
	}
	if !t.asked[name] {
		t.asked[name] = true
		t.names = append(t.names, name)
	}
	if len(t.names) == batchSize {
		b.depart()
	}
	return t
}

// depart starts the call of the open batch. The caller holds the lock.
func (b *batcher) depart() {
	t := b.open
	b.open = nil
	if t.waiting == 0 {
		close(t.done)
		return
	}
	b.underWay++
	var ctx context.Context
	if t.forever {
		ctx, t.cancel = context.WithCancel(context.Background())
	} else {
		ctx, t.cancel = context.WithDeadline(context.Background(), t.deadline)
	}
	go func() {
		defer b.ended()
		defer t.cancel()
		b.read(ctx, t)
		close(t.done)
	}()
}

// leave takes a caller out; with the last one the call ends.
func (b *batcher) leave(t *batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.waiting--; t.waiting == 0 && t.cancel != nil {
		t.cancel()
	}
}

// read reads all names in one call. Where that fails for a reason that need not be
// every name's, each is read by itself.
func (b *batcher) read(ctx context.Context, t *batch) {
	t.values = make(map[string]batched, len(t.names))
	if len(t.names) == 1 {
		t.values[t.names[0]] = b.alone(ctx, t.names[0])
		return
	}
	values, err := b.many(ctx, t.names)
	kind := conn.KindOf(err)
	if err == nil || kind == conn.Unreachable || kind == conn.Timeout {
		for _, name := range t.names {
			text, ok := values[name]
			t.values[name] = batched{text, ok, err}
		}
		return
	}
	all := make([]batched, len(t.names))
	var wg sync.WaitGroup
	for i, name := range t.names {
		wg.Go(func() { all[i] = b.alone(ctx, name) })
	}
	wg.Wait()
	allowed := false
	for i, name := range t.names {
		t.values[name] = all[i]
		allowed = allowed || all[i].err == nil
	}
	if kind == conn.Denied && allowed {
		b.mu.Lock()
		b.single = true
		b.mu.Unlock()
	}
}

func (b *batcher) alone(ctx context.Context, name string) batched {
	text, ok, err := b.one(ctx, name)
	return batched{text, ok, err}
}

// batchable reports whether a name is one that Parameter Store takes: one that it does
// not take would spoil a whole call.
func batchable(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.',
			c == '-', c == '/':
		default:
			return false
		}
	}
	return len(name) <= 1011
}
