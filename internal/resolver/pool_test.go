package resolver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/resolver"
)

// fixture is a pool of fake children.
type fixture struct {
	*resolver.Pool
	t     *testing.T
	dir   string
	cache *cache.Cache
}

// config describes a pool of fake children in a mode; tests change what they are
// about.
func config(t *testing.T, mode string) resolver.Config {
	t.Helper()
	c, err := cache.New(2 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return resolver.Config{
		Command: command(t, mode), Cache: c,
		Key: bytes.Repeat([]byte{0xab}, 32), Blob: []byte("the settings"),
		Epoch: time.Minute, Timeout: 10 * time.Second,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func command(t *testing.T, mode string) resolver.Command {
	dir := t.TempDir()
	return resolver.Command{
		Path: "/proc/self/exe", Args: []string{"connfs", "fake-child", mode, dir},
		Confine: harden.Confinement{Writable: []string{dir}},
	}
}

func start(t *testing.T, cfg resolver.Config) *fixture {
	t.Helper()
	p, err := resolver.NewPool(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return &fixture{Pool: p, t: t, dir: cfg.Command.Args[3], cache: cfg.Cache}
}

// get resolves id and returns the value, or fails the test.
func (f *fixture) get(id string) string {
	f.t.Helper()
	v, origin, err := f.Get(f.t.Context(), 0, id, conn.FormatJSON)
	if err != nil {
		f.t.Fatalf("%s: %v", id, err)
	}
	defer v.Release()
	if want := (resolver.Origin{Backend: "fake", KMS: "main", Key: "k 1"}); origin != want {
		f.t.Errorf("%s: origin %+v", id, origin)
	}
	text := string(bytes.Join(v.Slices(0, v.Size()), nil))
	if v.Version() != digest(text) {
		f.t.Errorf("%s: version %x", id, v.Version())
	}
	return text
}

func (f *fixture) pid() int {
	f.t.Helper()
	pid, err := strconv.Atoi(f.get("pid"))
	if err != nil {
		f.t.Fatal(err)
	}
	return pid
}

// noted counts the children that did something.
func (f *fixture) noted(what string) int {
	b, err := os.ReadFile(filepath.Join(f.dir, "log"))
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Count("\n"+string(b), "\n"+what+" ")
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// await waits until the condition that what describes holds.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this did not happen in time: %s", what)
		}
	}
}

func wantKind(t *testing.T, err error, kind conn.Kind, text string) {
	t.Helper()
	var e *conn.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want kind %v and %q", err, kind, text)
	}
}

func TestValuesOfEverySizeGoToSlots(t *testing.T) {
	f := start(t, config(t, ""))
	for _, n := range []int{0, 1, 4096, 4097, 70000, 1 << 20} {
		if got := f.get("size:" + strconv.Itoa(n)); got != strings.Repeat("v", n) {
			t.Errorf("%d bytes came as %d", n, len(got))
		}
	}
	v, err := f.cache.Reserve(2<<20 - cache.PageSize)
	if err != nil {
		t.Fatal("slots are lost")
	}
	v.Release()
}

func TestChildrenAreGivenKeySettingsAndDeadline(t *testing.T) {
	f := start(t, config(t, ""))
	want := strings.Repeat("ab", 32) + " 7468652073657474696e6773 json"
	if got := f.get("settings"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	d, err := time.ParseDuration(f.get("timeout"))
	// A little less than ours, so that the child's answer comes first.
	if err != nil || d >= 10*time.Second || d < 8*time.Second {
		t.Errorf("timeout %v, %v", d, err)
	}
}

func TestFailuresComeThroughWhole(t *testing.T) {
	f := start(t, config(t, ""))
	_, _, err := f.Get(t.Context(), 0, "nothing", conn.FormatJSON)
	var e *conn.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v", err)
	}
	want := conn.Error{Kind: conn.Absent, Source: "fake", Reason: "there is none", Hint: "make one"}
	if *e != want {
		t.Errorf("%+v", *e)
	}
	_, _, err = f.Get(t.Context(), 0, "no value", conn.FormatJSON)
	wantKind(t, err, conn.Failed, "without a value")
}

func TestListAndExplain(t *testing.T) {
	f := start(t, config(t, ""))
	l, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &resolver.Listing{
		IDs: []string{"a\nb", "c", "\xff"},
		Failed: []resolver.Answer{
			{Backend: "metastore", Result: "unreachable", Kind: conn.Unreachable, Reason: "down"},
		},
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	answers, err := f.Explain(t.Context(), "x")
	if err != nil || len(answers) != 2 || !answers[1].Decides || answers[0].Kind != conn.Absent ||
		answers[0].Duration != 5 {
		t.Errorf("answers %+v, %v", answers, err)
	}
}

func TestAChildIsKilledAtTheEndOfItsEpochAndRetiredBefore(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = time.Second
	f := start(t, cfg)
	sent := time.Now()
	old := f.pid()
	answered := time.Now()
	if f.pid() != old && time.Since(sent) < 800*time.Millisecond {
		t.Error("two requests at once went to two children")
	}
	await(t, "a new child takes the requests", func() bool { return f.pid() != old })
	if d := time.Since(sent); d < 800*time.Millisecond {
		t.Errorf("the first child was retired after %v", d)
	}
	await(t, "the first child is gone", func() bool { return !alive(old) })
	if d := time.Since(sent); d < time.Second {
		t.Errorf("the first child was killed after %v", d)
	}
	if d := time.Since(answered); d > 10*time.Second {
		t.Errorf("the first child lived for %v", d)
	}
}

func TestAnIdleChildIsKept(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = 50 * time.Millisecond
	f := start(t, cfg)
	first := f.Children()
	// There is no condition to wait for, since nothing is to happen.
	time.Sleep(300 * time.Millisecond)
	if now := f.Children(); len(first) != 1 || !slices.Equal(first, now) || !alive(now[0]) {
		t.Errorf("children %v became %v without a request", first, now)
	}
	if got := f.pid(); got != first[0] {
		t.Errorf("the spare %v was not used, but %d", first, got)
	}
}

func TestARequestThatTheEpochCutsOffIsRepeated(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = 300 * time.Millisecond
	f := start(t, cfg)
	f.pid() // starts the clock
	if got := f.get("hang once"); got != "the second time" {
		t.Errorf("%q", got)
	}
}

// A child that stands still, as under a debugger or on a busy machine, reaches the end
// of its epoch with requests that no other child's accident may cost an answer.
func TestARequestThatSeveralEpochsCutOffIsRepeated(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = 200 * time.Millisecond
	f := start(t, cfg)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for { // other requests start the clock of each child
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				if slot, _, err := f.Get(t.Context(), 0, "pid", conn.FormatJSON); err == nil {
					slot.Release()
				}
			}
		}
	})
	got := f.get("hang times:3")
	close(done)
	wg.Wait()
	if got != "at last" {
		t.Errorf("%q", got)
	}
}

func TestARequestIsRepeatedOnlyOnce(t *testing.T) {
	f := start(t, config(t, ""))
	for _, id := range []string{"die", "half", "nonsense", "unasked"} {
		_, _, err := f.Get(t.Context(), 0, id, conn.FormatJSON)
		wantKind(t, err, conn.Failed, "ended twice")
		// And the next one finds a child that works.
		f.pid()
	}
	v, err := f.cache.Reserve(2<<20 - cache.PageSize)
	if err != nil {
		t.Fatal("the slot of a value that broke off is lost")
	}
	v.Release()
}

func TestAValueOfAnotherConnectionIsRefused(t *testing.T) {
	f := start(t, config(t, ""))
	_, _, err := f.Get(t.Context(), 0, "other id", conn.FormatJSON)
	wantKind(t, err, conn.Failed, "another connection")
	f.pid()
}

func TestAChildThatHangsIsATimeoutWithinTheDeadline(t *testing.T) {
	cfg := config(t, "")
	cfg.Timeout = 300 * time.Millisecond
	f := start(t, cfg)
	hung := f.pid()
	start := time.Now()
	_, _, err := f.Get(t.Context(), 0, "hang", conn.FormatJSON)
	wantKind(t, err, conn.Timeout, "no answer within the deadline")
	if d := time.Since(start); d < 250*time.Millisecond || d > 5*time.Second {
		t.Errorf("answered after %v", d)
	}
	await(t, "the child that hangs is gone", func() bool { return !alive(hung) })
	f.pid()
}

// A child that does not even read fills the pipe, on which nobody may wait beyond
// the deadline.
func TestAFullPipeIsATimeoutToo(t *testing.T) {
	cfg := config(t, "")
	cfg.Timeout = 500 * time.Millisecond
	f := start(t, cfg)
	var wg sync.WaitGroup
	for _, id := range []string{"deaf", strings.Repeat("x", 1<<20), strings.Repeat("y", 1<<20)} {
		wg.Go(func() {
			start := time.Now()
			_, _, err := f.Get(t.Context(), 0, id, conn.FormatJSON)
			// The other two may be repeated, and answered by the next child or
			// cut off with it.
			if kind := conn.KindOf(err); err == nil || id == "deaf" && kind != conn.Timeout {
				t.Errorf("%.10s: %v", id, err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("blocked for %v", d)
			}
		})
	}
	wg.Wait()
	f.pid()
}

func TestACancelledRequestIsInterrupted(t *testing.T) {
	f := start(t, config(t, ""))
	child := f.pid()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, _, err := f.Get(ctx, 0, "slow:400", conn.FormatJSON)
	wantKind(t, err, conn.Interrupted, "")
	// The late answer is dropped, and its slot freed.
	if got := f.get("slow:800"); got != "at last" || f.pid() != child {
		t.Errorf("%q, or another child", got)
	}
	v, err := f.cache.Reserve(2<<20 - cache.PageSize)
	if err != nil {
		t.Fatal("the slot of the late answer is lost")
	}
	v.Release()
}

func TestConcurrencyIsBounded(t *testing.T) {
	cfg := config(t, "")
	cfg.Concurrency = 1
	f := start(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Get(ctx, 0, "hang", conn.FormatJSON) })
	// Once the first one is under way, a short deadline passes while the second waits.
	await(t, "a request has to wait", func() bool {
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		slot, _, err := f.Get(short, 0, "pid", conn.FormatJSON)
		if err == nil {
			slot.Release()
		}
		return err != nil && strings.Contains(err.Error(), "too many fetches")
	})
	cancel()
	wg.Wait()
	f.pid()
}

func TestManyRequestsOverManyEpochs(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = 100 * time.Millisecond
	f := start(t, cfg)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 40 {
				if got := f.get("slow:10"); got != "at last" {
					t.Errorf("%q", got)
				}
			}
		})
	}
	wg.Wait()
	if n := f.noted("start"); n < 4 {
		t.Errorf("only %d children", n)
	}
}

func TestWithoutASlotTheValueIsDrainedAndThePipeStaysInStep(t *testing.T) {
	cfg := config(t, "")
	small, err := cache.New(2 * cache.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	cfg.Cache = small
	f := start(t, cfg)
	child := f.pid()
	slot, _, err := f.Get(t.Context(), 0, "size:4096", conn.FormatJSON)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"size:1", "size:100000"} {
		_, _, err = f.Get(t.Context(), 0, id, conn.FormatJSON)
		wantKind(t, err, conn.NoSlot, "slot")
	}
	slot.Release()
	if f.pid() != child {
		t.Error("the pipe was given up")
	}
	if got := f.get("size:4096"); len(got) != 4096 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTheSpareLogsInOnlyWhileReadsGoOn(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = 500 * time.Millisecond
	f := start(t, cfg)
	once := f.pid()
	await(t, "the epoch of one read ends", func() bool { return !alive(once) })
	if n := f.noted("warm"); n != 0 {
		t.Errorf("%d spares logged in for a single read", n)
	}
	f.pid()
	f.pid()
	await(t, "a spare logs in", func() bool { return f.noted("warm") > 0 })
}

func TestTheSpareIsRefilled(t *testing.T) {
	f := start(t, config(t, ""))
	current := f.pid()
	await(t, "there is a spare", func() bool { return len(f.Children()) == 2 })
	spare := func() int {
		for _, pid := range f.Children() {
			if pid != current {
				return pid
			}
		}
		return 0
	}
	old := spare()
	// A spare that dies within a second is not replaced before the next request.
	began := time.Now()
	await(t, "the spare is old", func() bool { return time.Since(began) > 1100*time.Millisecond })
	syscall.Kill(old, syscall.SIGKILL)
	await(t, "there is another spare", func() bool { return spare() != 0 && spare() != old })
	if f.pid() != current {
		t.Error("the current child changed")
	}
}

func TestTheCurrentChildsAccidentIsRepaired(t *testing.T) {
	f := start(t, config(t, ""))
	for range 5 {
		child := f.pid()
		syscall.Kill(child, syscall.SIGKILL)
		if f.pid() == child {
			t.Error("answered by the dead")
		}
	}
}

// Children that cannot even start must neither become a fork bomb nor leave the pool
// broken once they can.
func TestChildrenThatDieAtTheirStart(t *testing.T) {
	cfg := config(t, "")
	f := start(t, cfg)
	broken := filepath.Join(f.dir, "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	current := f.pid()
	await(t, "a spare is tried", func() bool { return f.noted("start") == 2 })
	for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); {
		if f.pid() != current {
			t.Fatal("another child answered")
		}
	}
	if n := f.noted("start"); n > 3 {
		t.Errorf("%d children were started for one that works", n)
	}
	syscall.Kill(current, syscall.SIGKILL)
	await(t, "the last child that works is gone", func() bool { return !alive(current) })
	for range 3 {
		before := f.noted("start")
		_, _, err := f.Get(t.Context(), 0, "pid", conn.FormatJSON)
		wantKind(t, err, conn.Failed, "resolver child")
		if n := f.noted("start") - before; n > 4 {
			t.Errorf("one request started %d children", n)
		}
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	await(t, "requests are answered again", func() bool {
		slot, _, err := f.Get(t.Context(), 0, "pid", conn.FormatJSON)
		if err == nil {
			slot.Release()
		}
		return err == nil
	})
}

// Many requests that find no child start one each; children beyond the current one and the
// spare must not live on.
func TestNoChildIsForgotten(t *testing.T) {
	f := start(t, config(t, ""))
	for range 3 {
		for _, pid := range f.Children() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if slot, _, err := f.Get(t.Context(), 0, "pid", conn.FormatJSON); err == nil {
					slot.Release()
				}
			})
		}
		wg.Wait()
		await(t, "no more than one current child and one spare", func() bool {
			return len(f.Children()) <= 2
		})
	}
}

func TestNewPoolSaysWhyNot(t *testing.T) {
	for mode, want := range map[string]struct {
		kind conn.Kind
		text string
	}{
		"exit":   {conn.Failed, "ended while it started up"},
		"refuse": {conn.Invalid, "they are not usable"},
	} {
		cfg := config(t, mode)
		_, err := resolver.NewPool(t.Context(), cfg)
		wantKind(t, err, want.kind, want.text)
	}
	cfg := config(t, "")
	cfg.Command.Path = "/nonexistent/connfs"
	_, err := resolver.NewPool(t.Context(), cfg)
	wantKind(t, err, conn.Failed, "no resolver child can be started")

	for _, mode := range []string{"never ready", "deaf"} {
		cfg := config(t, mode)
		cfg.Blob = make([]byte, 1<<20) // more than the pipe holds
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err = resolver.NewPool(ctx, cfg)
		wantKind(t, err, conn.Timeout, "did not start up in time")
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	// The first process of a test opens files that stay open.
	warmup := start(t, config(t, ""))
	warmup.pid()
	warmup.Close()
	var goroutines, descriptors int
	settle := func(what string, limitG, limitD int) {
		t.Helper()
		await(t, what, func() bool {
			return runtime.NumGoroutine() <= limitG && openFiles(t) <= limitD
		})
	}
	last := -1
	await(t, "the count of goroutines is steady", func() bool {
		now := runtime.NumGoroutine()
		steady := now == last
		last = now
		time.Sleep(20 * time.Millisecond)
		return steady
	})
	goroutines, descriptors = runtime.NumGoroutine(), openFiles(t)

	f := start(t, config(t, ""))
	f.pid()
	await(t, "there is a spare", func() bool { return len(f.Children()) == 2 })
	pids := f.Children()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := f.Get(t.Context(), 0, "hang", conn.FormatJSON)
		wantKind(t, err, conn.Failed, "")
	})
	f.Close()
	f.Close() // again is harmless
	wg.Wait()
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("child %d is still there", pid)
		}
	}
	_, _, err := f.Get(t.Context(), 0, "pid", conn.FormatJSON)
	wantKind(t, err, conn.Failed, "shut down")
	settle("goroutines and descriptors are given back", goroutines, descriptors)
	if n := len(f.Children()); n != 0 {
		t.Errorf("%d children are still counted", n)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestConfigureReturnsBothParts(t *testing.T) {
	cmd := command(t, "")
	env := []byte("A=1\x00B=2\x00")
	var kept []byte
	front, body, err := resolver.Configure(t.Context(), &cmd, &resolver.ConfigureRequest{
		ConfigFile: "/c.toml", EUID: 7,
	}, env, func(n int) ([]byte, error) {
		kept = make([]byte, n)
		return kept, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(front), `"ConfigFile":"/c.toml"`) ||
		!strings.Contains(string(front), `"EUID":7`) || !bytes.Equal(body, env) ||
		&body[0] != &kept[0] {
		t.Errorf("front %s, body %q", front, body)
	}
}

func TestConfigureSaysWhyNot(t *testing.T) {
	keep := func(n int) ([]byte, error) { return make([]byte, n), nil }
	for file, want := range map[string]struct {
		kind conn.Kind
		text string
	}{
		"bad": {conn.Invalid, "configuration: invalid: config.toml:3: no"},
		"die": {conn.Failed, "ended without an answer"}, "hang": {conn.Timeout, "took too long"},
	} {
		cmd := command(t, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := resolver.Configure(ctx, &cmd, &resolver.ConfigureRequest{ConfigFile: file},
			nil, keep)
		wantKind(t, err, want.kind, want.text)
	}
	full := errors.New("no memory")
	cmd := command(t, "")
	_, _, err := resolver.Configure(t.Context(), &cmd, &resolver.ConfigureRequest{}, []byte("x"),
		func(int) ([]byte, error) { return nil, full })
	if !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// A pool that another replaces keeps the child that answers, until it has answered, and no other.
func TestADrainingPoolEndsWithItsLastRequest(t *testing.T) {
	f := start(t, config(t, ""))
	f.pid()
	await(t, "there is a spare", func() bool { return len(f.Children()) == 2 })
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := f.get("slow:300"); got != "at last" {
			t.Errorf("got %q", got)
		}
	})
	await(t, "the request is under way", func() bool { return f.Active() == 1 })
	drained := make(chan struct{})
	go func() {
		f.Drain(t.Context())
		close(drained)
	}()
	await(t, "the spare is gone", func() bool { return len(f.Children()) <= 1 })
	wg.Wait()
	<-drained
	if n := len(f.Children()); n != 0 {
		t.Errorf("%d children are still there", n)
	}
	_, _, err := f.Get(t.Context(), 0, "pid", conn.FormatJSON)
	if !errors.Is(err, resolver.ErrClosed) {
		t.Errorf("a later request: %v", err)
	}
}

func TestADrainingPoolEndsAtItsDeadline(t *testing.T) {
	f := start(t, config(t, ""))
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := f.Get(t.Context(), 0, "hang", conn.FormatJSON)
		if !errors.Is(err, resolver.ErrClosed) {
			t.Errorf("the request that is cut off: %v", err)
		}
	})
	await(t, "the request is under way", func() bool { return f.Active() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f.Drain(ctx)
	wg.Wait()
	if n := len(f.Children()); n != 0 {
		t.Errorf("%d children are still there", n)
	}
}
