package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/audit"
	"github.com/connfs/connfs/internal/broker"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/policy"
)

const (
	alice = 1001
	bob   = 1002
	eve   = 6666
)

// backend is a Fetcher over a map, in which each fetch can be made to take time.
type backend struct {
	cache *cache.Cache
	delay time.Duration

	mu      sync.Mutex
	values  map[string]string
	origins map[string]cache.Origin // where a value is from; none: "fake", and not sealed
	err     map[string]error
	fetches map[string]int
	lists   int
	calls   int             // what a listing costs
	partial bool            // not every backend lists its ids
	blind   bool            // there may be more than is listed
	listErr error           // it failed altogether
	charged map[uint32]bool // of whom nothing is taken
	payers  []uint32
	ages    []time.Duration // of the next values
	late    time.Duration   // how much later than its deadline the next fetch ends
}

func (b *backend) Fetch(
	ctx context.Context, uid uint32, id string,
) (*cache.Value, cache.Origin, error) {
	b.mu.Lock()
	b.fetches[id]++
	b.payers = append(b.payers, uid)
	charged := b.charged[uid]
	b.mu.Unlock()
	if b.delay > 0 {
		select {
		case <-time.After(b.delay):
		case <-ctx.Done():
			b.mu.Lock()
			late := b.late
			b.late = 0
			b.mu.Unlock()
			time.Sleep(late)
			return nil, cache.Origin{}, conn.Errorf(conn.Timeout, "fake", "slow")
		}
	}
	if charged {
		return nil, cache.Origin{}, &conn.Error{Kind: conn.Timeout, Charged: true}
	}
	b.mu.Lock()
	text, ok := b.values[id]
	err := b.err[id]
	origin, known := b.origins[id]
	b.mu.Unlock()
	switch {
	case err != nil:
		return nil, cache.Origin{}, err
	case !ok:
		return nil, cache.Origin{}, conn.Errorf(conn.Absent, "", "no backend has it")
	}
	v, err := b.cache.Reserve(len(text))
	if err != nil {
		return nil, cache.Origin{}, conn.Errorf(conn.NoSlot, "", "full")
	}
	v.SetVersion(uint64(digest(text)))
	b.mu.Lock()
	if len(b.ages) > 0 {
		v.SetAge(b.ages[0])
		b.ages = b.ages[1:]
	}
	b.mu.Unlock()
	for at, parts := 0, v.Slices(0, len(text)); len(parts) > 0; parts = parts[1:] {
		at += copy(parts[0], text[at:])
	}
	if !known {
		origin = cache.Origin{Backend: "fake"}
	}
	return v, origin, nil
}

func (b *backend) List(ctx context.Context) (broker.Listing, error) {
	b.mu.Lock()
	b.lists++
	b.mu.Unlock()
	if b.delay > 0 {
		time.Sleep(b.delay)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listErr != nil {
		return broker.Listing{}, b.listErr
	}
	var ids []string
	for id := range b.values {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return broker.Listing{
		IDs: ids, Answered: !b.partial, Complete: !b.partial && !b.blind, Calls: b.calls,
	}, nil
}

func (b *backend) set(id, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values[id] = text
}

func (b *backend) fail(id string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err[id] = err
}

func (b *backend) fetched(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fetches[id]
}

func (b *backend) listed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lists
}

func digest(text string) uint32 {
	h := fnv.New32a()
	io.WriteString(h, text)
	return h.Sum32()
}

// auditor keeps the lines.
type auditor struct {
	mu      sync.Mutex
	entries []audit.Entry
	err     error
}

func (a *auditor) Write(e *audit.Entry, until time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.entries = append(a.entries, *e)
	return nil
}

func (a *auditor) breakWith(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *auditor) take() []audit.Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.entries
	a.entries = nil
	return out
}

// fixture is a broker over a fake backend. Alice may read a_* and shared, Bob
// shared.
type fixture struct {
	*broker.Broker
	backend *backend
	audit   *auditor
	state   *broker.State
	log     *bytes.Buffer
	cache   *cache.Cache
}

func rules() []policy.Rule {
	uid := func(n uint32) *uint32 { return &n }
	return []policy.Rule{
		{
			UID: uid(alice), DAG: "a_dag", Connections: []string{"a_*", "shared"},
			File: "config.toml", Line: 10,
		},
		{UID: uid(bob), Connections: []string{"shared"}, File: "config.toml", Line: 20},
	}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	c, err := cache.New(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	b := &backend{
		cache: c, err: map[string]error{}, fetches: map[string]int{},
		values: map[string]string{"a_db": "alice's", "shared": "for two", "bobs": "nobody's"},
	}
	f := &fixture{backend: b, audit: &auditor{}, log: new(bytes.Buffer), cache: c}
	f.state = &broker.State{
		Policy: policy.New(policy.Config{Rules: rules()}), Fetcher: b, TTL: 5 * time.Second,
		NegativeTTL: time.Second, Timeout: 5 * time.Second, Audit: f.audit,
	}
	f.Broker = broker.New(broker.Config{
		State: f.state, Cache: c, Errno: errno, Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
	t.Cleanup(f.settle)
	return f
}

// settle waits for the fetches that interrupted readers left behind.
func (f *fixture) settle() {
	for !f.Idle() {
		time.Sleep(time.Millisecond)
	}
}

func errno(err error) string {
	if err == nil {
		return ""
	}
	return "E-" + conn.KindOf(err).String()
}

func by(uid uint32) conn.Caller {
	return conn.Caller{UID: uid, GID: uid + 1, PID: 77, Unique: 5, Mount: "/conn"}
}

func wantKind(t *testing.T, what string, err error, kind conn.Kind) {
	t.Helper()
	var e *conn.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("%s: error %v, want kind %v", what, err, kind)
	}
}

// open opens and fails the test if that fails.
func (f *fixture) open(t *testing.T, uid uint32, id string) uint32 {
	t.Helper()
	v, err := f.Open(nil, by(uid), id)
	if err != nil {
		t.Fatalf("opening %s as %d: %v", id, uid, err)
	}
	return v
}

func (f *fixture) read(t *testing.T, uid uint32, id string, version uint32) string {
	t.Helper()
	data, _, release, err := f.Read(nil, by(uid), id, version, 0, 1<<20)
	if err != nil {
		t.Fatalf("reading %s as %d: %v", id, uid, err)
	}
	text := string(bytes.Join(data, nil))
	if release != nil {
		release()
	}
	return text
}

// What is demanded of a value is decided for each OPEN and READ, by the value's own record.
func TestAValueThatIsNotSealedIsRefusedToWhomeverDemandsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		demanding := rules()
		demanding[1].Sealed = true // Bob's
		f.SetPolicy(policy.New(policy.Config{Rules: demanding}))
		sealed := cache.Origin{Backend: "fake", KMS: "main", Key: "k"}
		from := func(o cache.Origin) {
			f.backend.mu.Lock()
			defer f.backend.mu.Unlock()
			f.backend.origins = map[string]cache.Origin{"shared": o}
		}
		refused := func(what string, err error) {
			t.Helper()
			wantKind(t, what, err, conn.KeyRejected)
			const says = "fake: key rejected: it is not sealed, which is demanded by config.toml:20"
			if err != nil && err.Error() != says {
				t.Errorf("%s: %v", what, err)
			}
		}

		// Fetched for Alice, of whom nothing is demanded, it is in the cache for Bob too.
		version := f.open(t, alice, "shared")
		_, err := f.Open(nil, by(bob), "shared")
		refused("a cached value", err)
		_, _, _, err = f.Read(nil, by(bob), "shared", version, 0, 10)
		refused("a READ of a descriptor that Alice opened", err)
		if got := f.read(t, alice, "shared", version); got != "for two" {
			t.Errorf("Alice reads %q", got)
		}
		time.Sleep(6 * time.Second)
		_, err = f.Open(nil, by(bob), "shared")
		refused("a value that Bob fetches", err)
		if f.backend.fetched("shared") != 2 || f.open(t, alice, "shared") != version {
			t.Error("what Bob fetched is not kept for Alice")
		}

		// Sealed, it reads; replaced by a plain one of the same content, it does not.
		from(sealed)
		time.Sleep(6 * time.Second)
		version = f.open(t, bob, "shared")
		if got := f.read(t, bob, "shared", version); got != "for two" {
			t.Errorf("Bob reads %q", got)
		}
		from(cache.Origin{Backend: "fake"})
		time.Sleep(6 * time.Second)
		_, _, _, err = f.Read(nil, by(bob), "shared", version, 0, 10)
		refused("a READ of what was sealed when it was opened", err)

		// A reload that demands it counts for open descriptors, and for what is cached.
		demanding[0].Sealed, demanding[0].Line = true, 20
		f.open(t, alice, "shared")
		f.SetPolicy(policy.New(policy.Config{Rules: demanding}))
		_, _, _, err = f.Read(nil, by(alice), "shared", version, 0, 10)
		refused("after a reload", err)

		var got []string
		for _, e := range f.audit.take() {
			got = append(got, fmt.Sprintf("%s %d %v %s%q %v %s/%s",
				e.Op, e.UID, e.Allowed, e.Source, e.Errno, e.Sealed, e.KMS, e.Key))
		}
		want := []string{
			`open 1001 true fake"" false /`, `open 1002 true fake"E-key rejected" false /`,
			`read 1002 true fake"E-key rejected" false /`,
			`open 1002 true fake"E-key rejected" false /`, `open 1001 true fake"" false /`,
			`open 1002 true fake"" true main/k`, `read 1002 true fake"E-key rejected" false /`,
			`open 1001 true fake"" false /`, `read 1001 true fake"E-key rejected" false /`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("audit (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsNotGrantedReachesNoBackend(t *testing.T) {
	f := newFixture(t)
	for _, id := range []string{"bobs", "a_db", "invented"} {
		_, err := f.Open(nil, by(bob), id)
		wantKind(t, "open "+id, err, conn.NotGranted)
		_, _, _, err = f.Read(nil, by(bob), id, 1, 0, 10)
		wantKind(t, "read "+id, err, conn.NotGranted)
		_, _, err = f.Stat(by(bob), id)
		wantKind(t, "stat "+id, err, conn.NotGranted)
		if f.MayRead(by(bob), id) {
			t.Errorf("MayRead %s", id)
		}
		if n := f.backend.fetched(id); n != 0 {
			t.Errorf("%s was fetched %d times", id, n)
		}
	}
	if ids, err := f.List(nil, by(eve)); ids != nil || err != nil || f.backend.listed() != 0 {
		t.Errorf("a stranger's listing: %q, %v, backends asked %d times", ids, err,
			f.backend.listed())
	}
	if ids := f.Listed(by(eve)); ids != nil {
		t.Errorf("what a stranger sees of the listing: %q", ids)
	}
	if !f.ReadsAnything(by(bob)) || f.ReadsAnything(by(eve)) {
		t.Error("ReadsAnything is wrong")
	}
}

func TestAThousandOpensShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		var wg sync.WaitGroup
		for i := range 1000 {
			uid := uint32(alice + i%2) // both may read it
			wg.Go(func() {
				if v, err := f.Open(nil, by(uid), "shared"); err != nil || v != digest("for two") {
					t.Errorf("version %x, error %v", v, err)
				}
			})
		}
		wg.Wait()
		if n := f.backend.fetched("shared"); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if got := f.read(t, bob, "shared", digest("for two")); got != "for two" {
			t.Errorf("read %q", got)
		}
		time.Sleep(5 * time.Second) // every pin was given back: the TTL wipes
		synctest.Wait()
		v, err := f.cache.Reserve(1<<20 - cache.PageSize)
		if err != nil {
			t.Fatal("pages are still pinned")
		}
		v.Release()
	})
}

// A reader may wait for a fetch that another user began, and pays for.
func TestFailuresOfOneUserAreNotAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		f.backend.charged = map[uint32]bool{alice: true}
		if _, err := f.Open(nil, by(alice), "shared"); conn.KindOf(err) != conn.Timeout {
			t.Errorf("alice alone: %v", err)
		}
		var wg sync.WaitGroup
		open := func(uid uint32) {
			wg.Go(func() {
				if _, err := f.Open(nil, by(uid), "shared"); err != nil {
					t.Errorf("%d: %v", uid, err)
				}
			})
			synctest.Wait()
		}
		open(alice)
		open(bob)
		wg.Wait()
		if diff := cmp.Diff([]uint32{alice, alice, bob}, f.backend.payers); diff != "" {
			t.Errorf("who paid (-want +got):\n%s", diff)
		}
	})
}

func TestAnInterruptedReaderLeavesTheFetchGoingOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = 2 * time.Second
		cancel := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(cancel) })
		start := time.Now()
		_, err := f.Open(cancel, by(alice), "a_db")
		wantKind(t, "open", err, conn.Interrupted)
		if d := time.Since(start); d != time.Second {
			t.Errorf("answered after %v", d)
		}
		time.Sleep(1500 * time.Millisecond)
		start = time.Now()
		version := f.open(t, alice, "a_db")
		if d := time.Since(start); d != 0 {
			t.Errorf("the retry waited %v", d)
		}
		if n := f.backend.fetched("a_db"); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if got := f.read(t, alice, "a_db", version); got != "alice's" {
			t.Errorf("read %q", got)
		}
		synctest.Wait()
		if f.log.Len() > 0 {
			t.Errorf("an interrupted reader was logged as a failure: %s", f.log)
		}
	})
}

func TestAFetchHasADeadlineOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Hour
		start := time.Now()
		_, err := f.Open(nil, by(alice), "a_db")
		wantKind(t, "open", err, conn.Timeout)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("blocked for %v", d)
		}
	})
}

// While this process is stopped, an answer grows old in the pipe.
func TestWhatGrewOldOnItsWayIsFetchedAgain(t *testing.T) {
	for _, c := range []struct {
		ttl     time.Duration
		ages    []time.Duration
		fetches int
	}{
		{5 * time.Second, []time.Duration{5 * time.Second}, 1},
		{5 * time.Second, []time.Duration{6 * time.Second}, 2},
		{5 * time.Second, []time.Duration{time.Hour, 6 * time.Second}, 3},
		{0, []time.Duration{time.Second}, 1}, // nothing is kept, and a second is always allowed
		{0, []time.Duration{2 * time.Second}, 2},
		// It is served at last: it is at least younger than the question.
		{0, []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour}, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.state.TTL, f.backend.ages = c.ttl, c.ages
			f.open(t, alice, "a_db")
			if n := f.backend.fetched("a_db"); n != c.fetches {
				t.Errorf("%v after %v: %d fetches, want %d", c.ttl, c.ages, n, c.fetches)
			}
		})
	}
}

func TestATimeThatRanOutWhileTheProcessWasStoppedBeginsAnew(t *testing.T) {
	for late, want := range map[time.Duration]int{
		0: 1, time.Second: 1, time.Second + time.Millisecond: 2, time.Hour: 2,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.backend.delay, f.backend.late = time.Hour, late
			_, err := f.Open(nil, by(alice), "a_db")
			wantKind(t, "open", err, conn.Timeout)
			if n := f.backend.fetched("a_db"); n != want {
				t.Errorf("%v late: %d fetches, want %d", late, n, want)
			}
		})
	}
}

func TestAReadOfAnyVersionServesThePresentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		opened := f.open(t, alice, "a_db")
		f.backend.set("a_db", "rotated")
		time.Sleep(6 * time.Second)
		if got := f.read(t, alice, "a_db", 0); got != "rotated" {
			t.Errorf("read %q", got)
		}
		_, served, _, err := f.Read(nil, by(alice), "a_db", 0, 100, 1)
		if err != nil || served != digest("rotated") {
			t.Errorf("at the end: version %x, %v", served, err)
		}
		_, _, _, err = f.Read(nil, by(alice), "a_db", opened, 0, 100)
		wantKind(t, "read of the version that was opened", err, conn.Changed)
	})
}

func TestAbsentIsRememberedForItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		fails := func() {
			t.Helper()
			_, err := f.Open(nil, by(alice), "a_new")
			wantKind(t, "open", err, conn.Absent)
		}
		fails()
		time.Sleep(time.Second - time.Nanosecond)
		fails()
		_, _, err := f.Stat(by(alice), "a_new")
		wantKind(t, "stat", err, conn.Absent)
		if n := f.backend.fetched("a_new"); n != 1 {
			t.Errorf("%d fetches within the time", n)
		}
		f.backend.set("a_new", "now")
		time.Sleep(time.Nanosecond)
		f.open(t, alice, "a_new")
		if n := f.backend.fetched("a_new"); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestOtherErrorsAreNotRemembered(t *testing.T) {
	for _, kind := range []conn.Kind{
		conn.Failed, conn.Denied, conn.Unreachable, conn.Timeout, conn.KeyRejected, conn.Invalid,
		conn.TooLarge, conn.NoSlot,
	} {
		f := newFixture(t)
		f.backend.fail("a_db", conn.Errorf(kind, "fake", "because"))
		for range 2 {
			_, err := f.Open(nil, by(alice), "a_db")
			wantKind(t, "open", err, kind)
		}
		if n := f.backend.fetched("a_db"); n != 2 {
			t.Errorf("%v: %d fetches for two opens", kind, n)
		}
		if size, _, err := f.Stat(by(alice), "a_db"); size != -1 || err != nil {
			t.Errorf("%v: stat says %d, %v", kind, size, err)
		}
		f.backend.fail("a_db", nil)
		f.open(t, alice, "a_db")
	}
}

func TestWithoutATTLNothingIsKept(t *testing.T) {
	f := newFixture(t)
	f.state.TTL, f.state.NegativeTTL = 0, 0
	version := f.open(t, alice, "a_db")
	if got := f.read(t, alice, "a_db", version); got != "alice's" {
		t.Errorf("read %q", got)
	}
	if n := f.backend.fetched("a_db"); n != 2 {
		t.Errorf("%d fetches for an open and a read", n)
	}
	if v := f.cache.Get("a_db"); v != nil {
		t.Error("the value was kept")
	}
	for range 2 {
		f.Open(nil, by(alice), "a_new")
	}
	if n := f.backend.fetched("a_new"); n != 2 {
		t.Errorf("%d fetches of an absent id for two opens", n)
	}
	if size, _, err := f.Stat(by(alice), "a_db"); size != len("alice's") || err != nil {
		t.Errorf("stat says %d, %v", size, err)
	}
}

func TestAReadAfterTheTTLResolvesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		version := f.open(t, alice, "a_db")
		time.Sleep(6 * time.Second)
		if got := f.read(t, alice, "a_db", version); got != "alice's" {
			t.Errorf("read %q", got)
		}
		if n := f.backend.fetched("a_db"); n != 2 {
			t.Errorf("%d fetches", n)
		}
		f.backend.set("a_db", "rotated")
		if got := f.read(t, alice, "a_db", version); got != "alice's" {
			t.Errorf("read %q within the TTL", got)
		}
		time.Sleep(6 * time.Second)
		_, _, _, err := f.Read(nil, by(alice), "a_db", version, 0, 100)
		wantKind(t, "read of the changed content", err, conn.Changed)
		if got := f.read(t, alice, "a_db", f.open(t, alice, "a_db")); got != "rotated" {
			t.Errorf("the next open reads %q", got)
		}
		lines := f.audit.take()
		if e := lines[1]; e.Op != "read" || e.Errno != "E-changed" || !e.Allowed {
			t.Errorf("audit of the refused read: %+v", e)
		}
	})
}

func TestReadServesPartsAndNothingAtTheEnd(t *testing.T) {
	f := newFixture(t)
	version := f.open(t, alice, "a_db")
	for _, c := range []struct {
		off, n int
		want   string
	}{{0, 3, "ali"}, {5, 100, "'s"}, {7, 10, ""}, {1 << 30, 10, ""}} {
		data, _, release, err := f.Read(nil, by(alice), "a_db", version, c.off, c.n)
		if got := string(bytes.Join(data, nil)); got != c.want || err != nil ||
			(release == nil) != (c.want == "") {
			t.Errorf("read of %d at %d: %q, %v, release %v", c.n, c.off, got, err, release != nil)
		}
		if release != nil {
			release()
		}
	}
}

// A descriptor that was handed to another user reads only what that user may read.
func TestAReadByAnotherUserIsDecidedAnew(t *testing.T) {
	f := newFixture(t)
	private, shared := f.open(t, alice, "a_db"), f.open(t, alice, "shared")
	if got := f.read(t, bob, "shared", shared); got != "for two" {
		t.Errorf("read %q", got)
	}
	for _, uid := range []uint32{bob, eve, 0, 1<<32 - 1} {
		_, _, _, err := f.Read(nil, by(uid), "a_db", private, 0, 100)
		wantKind(t, fmt.Sprintf("read by %d", uid), err, conn.NotGranted)
	}
}

func TestARevokedGrantEndsOpenDescriptors(t *testing.T) {
	revoked := policy.New(policy.Config{Rules: rules()[1:]})
	for name, revoke := range map[string]func(f *fixture){
		"SetPolicy": func(f *fixture) { f.SetPolicy(revoked) },
		"Replace": func(f *fixture) {
			st := *f.state
			st.Policy = revoked
			f.Replace(&st)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			version, theirs := f.open(t, alice, "a_db"), f.open(t, bob, "shared")
			revoke(f)
			_, _, _, err := f.Read(nil, by(alice), "a_db", version, 0, 100)
			wantKind(t, "read", err, conn.NotGranted)
			_, err = f.Open(nil, by(alice), "a_db")
			wantKind(t, "open", err, conn.NotGranted)
			if got := f.read(t, bob, "shared", theirs); got != "for two" {
				t.Errorf("who keeps the grant reads %q", got)
			}
		})
	}
}

func TestAGrantRevokedDuringAFetchServesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		version := f.open(t, alice, "a_db")
		time.Sleep(6 * time.Second) // its time is up
		f.backend.delay = time.Second
		f.audit.take()
		revoked := policy.New(policy.Config{Rules: rules()[1:]})
		time.AfterFunc(500*time.Millisecond, func() { f.SetPolicy(revoked) })
		data, _, _, err := f.Read(nil, by(alice), "a_db", version, 0, 100)
		wantKind(t, "read", err, conn.NotGranted)
		if data != nil {
			t.Errorf("read %q", data)
		}
		f.SetPolicy(f.state.Policy)
		time.Sleep(6 * time.Second)
		time.AfterFunc(500*time.Millisecond, func() { f.SetPolicy(revoked) })
		_, err = f.Open(nil, by(alice), "a_db")
		wantKind(t, "open", err, conn.NotGranted)
		for _, e := range f.audit.take() {
			if e.Allowed || e.Errno == "" || e.RunAsUser != "" || e.Rule == "config.toml:10" {
				t.Errorf("audited as allowed, or by the rule that is gone: %+v", e)
			}
		}
	})
}

func TestReplaceDropsWhatTheOldConfigurationFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.open(t, alice, "a_db")
		f.Open(nil, by(alice), "a_new")
		f.List(nil, by(alice))

		other := &backend{
			cache: f.cache, err: map[string]error{}, fetches: map[string]int{},
			values: map[string]string{"a_db": "of the new one", "a_new": "x"},
		}
		st := *f.state
		st.Fetcher = other
		f.Replace(&st)
		if size, _, err := f.Stat(by(alice), "a_db"); size != -1 || err != nil {
			t.Errorf("stat says %d, %v", size, err)
		}
		if got := f.read(t, alice, "a_db", f.open(t, alice, "a_db")); got != "of the new one" {
			t.Errorf("read %q", got)
		}
		f.open(t, alice, "a_new")
		if ids, _ := f.List(nil, by(alice)); !slices.Equal(ids, []string{"a_db", "a_new"}) {
			t.Errorf("listing %q", ids)
		}
	})
}

// A fetch of the old configuration that ends after a reload serves those who waited for
// it, and must change nothing of the new one.
func TestAFetchThatOutlivesAReplaceLeavesTheNewValueAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = 2 * time.Second
		var before uint32
		var wg sync.WaitGroup
		wg.Go(func() { before = f.open(t, alice, "a_db") })
		synctest.Wait()
		fresh := &backend{
			cache: f.cache, err: map[string]error{}, fetches: map[string]int{},
			values: map[string]string{"a_db": "new"},
		}
		st := *f.state
		st.Fetcher = fresh
		f.Replace(&st)
		after := f.open(t, alice, "a_db")
		wg.Wait()
		if before != digest("alice's") || after != digest("new") {
			t.Errorf("versions %x and %x", before, after)
		}
		if got := f.read(t, alice, "a_db", after); got != "new" {
			t.Errorf("read %q", got)
		}
		if n := fresh.fetched("a_db"); n != 1 {
			t.Errorf("%d fetches: the old one took the new value out of the cache", n)
		}
	})
}

// A fetch that the end of the old configuration cuts off is asked again of the new one, for those
// who may still read.
func TestAFetchThatAReplaceCutsOffIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		f.backend.fail("a_db", fmt.Errorf("%w: %w", broker.ErrReplaced,
			conn.Errorf(conn.Failed, "", "shut down")))
		var version uint32
		var wg sync.WaitGroup
		wg.Go(func() { version = f.open(t, alice, "a_db") })
		synctest.Wait()
		st := *f.state
		st.Fetcher = &backend{
			cache: f.cache, err: map[string]error{}, fetches: map[string]int{},
			values: map[string]string{"a_db": "new"},
		}
		f.Replace(&st)
		wg.Wait()
		if version != digest("new") {
			t.Errorf("version %x", version)
		}

		// Without another configuration it fails.
		f.Replace(f.state)
		if _, err := f.Open(nil, by(alice), "a_db"); conn.KindOf(err) != conn.Failed {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestEveryDecisionHasItsAuditLine(t *testing.T) {
	f := newFixture(t)
	f.open(t, alice, "a_db")
	f.open(t, alice, "a_db")
	f.Open(nil, by(alice), "a_new")
	f.Open(nil, by(eve), "a_db")
	f.Read(nil, by(bob), "a_db", 1, 0, 1)
	f.Refuse(by(alice), "a_db", conn.Errorf(conn.PageRead, "", "mmap"))
	f.Refuse(by(eve), "a_db", conn.Errorf(conn.PageRead, "", "mmap"))
	f.read(t, alice, "a_db", digest("alice's")) // a read that is served has none

	line := func(op string, uid uint32, id string) audit.Entry {
		return audit.Entry{
			Op: op, Mount: "/conn", UID: uid, GID: uid + 1, PID: 77, Unique: 5, ID: id,
		}
	}
	granted := func(e audit.Entry) audit.Entry {
		e.Allowed, e.RunAsUser, e.DAGs, e.Rule = true, "#1001", "a_dag", "config.toml:10"
		return e
	}
	fetched, cached, absent := granted(line("open", alice, "a_db")),
		granted(line("open", alice, "a_db")), granted(line("open", alice, "a_new"))
	fetched.Source = "fake"
	cached.Source, cached.Cached = "fake", true
	absent.Errno = "E-absent"
	stranger, page, strangersPage := line("open", eve, "a_db"),
		granted(line("read", alice, "a_db")), line("read", eve, "a_db")
	stranger.Rule, stranger.Errno = "no grant for this uid", "E-not granted"
	handed := line("read", bob, "a_db")
	handed.Rule, handed.Errno = "no grant of this uid names the id", "E-not granted"
	page.Errno = "E-page-cache read"
	strangersPage.Rule, strangersPage.Errno = stranger.Rule, stranger.Errno
	stranger.Stranger, strangersPage.Stranger = true, true

	want := []audit.Entry{fetched, cached, absent, stranger, handed, page, strangersPage}
	got := f.audit.take()
	if diff := cmp.Diff(
		want, got, cmpopts.IgnoreFields(audit.Entry{}, "Time", "Duration"),
	); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	for _, e := range got {
		if e.Time.IsZero() || e.Duration < 0 || e.Duration > time.Minute {
			t.Errorf("time %v, duration %v", e.Time, e.Duration)
		}
	}
}

// The kernel sends a request again to a new daemon with a bit set in its number.
func TestTheAuditTellsWhatWasSentAgain(t *testing.T) {
	f := newFixture(t)
	c := by(alice)
	c.Unique = 1<<63 | 42
	if _, err := f.Open(nil, c, "a_db"); err != nil {
		t.Fatal(err)
	}
	f.Read(nil, conn.Caller{UID: eve, Unique: 44}, "a_db", 1, 0, 1)
	got := f.audit.take()
	if !got[0].Resent || got[0].Unique != 42 || got[1].Resent || got[1].Unique != 44 {
		t.Errorf("%+v", got)
	}
}

func TestWhatCannotBeAuditedIsDeniedWhereTheAuditIsRequired(t *testing.T) {
	for _, must := range []bool{false, true} {
		f := newFixture(t)
		f.state.AuditMust = must
		f.audit.breakWith(errors.New("disk full"))
		_, err := f.Open(nil, by(alice), "a_db")
		if must {
			wantKind(t, "open", err, conn.Denied)
		} else if err != nil {
			t.Errorf("open: %v", err)
		}
		_, err = f.Open(nil, by(eve), "a_db")
		wantKind(t, "open by a stranger", err, conn.NotGranted)
	}
}

func TestStatKnowsSizesAndWhatACompleteListingLacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stat := func(id string, size int, kind conn.Kind) {
			t.Helper()
			got, _, err := f.Stat(by(alice), id)
			if kind != conn.Failed {
				wantKind(t, "stat "+id, err, kind)
			} else if got != size || err != nil {
				t.Errorf("stat %s: %d, %v, want %d", id, got, err, size)
			}
		}
		stat("a_db", -1, 0)
		stat("a_new", -1, 0)
		f.open(t, alice, "a_db")
		stat("a_db", len("alice's"), 0)
		f.List(nil, by(alice))
		stat("a_new", 0, conn.Absent)
		stat("shared", -1, 0)
		time.Sleep(5 * time.Second) // the listing is not fresh any more
		stat("a_new", -1, 0)
		// The size is kept for longer than the value: it is not a secret to those who may read.
		stat("a_db", len("alice's"), 0)
		f.backend.partial = true
		f.List(nil, by(alice))
		stat("a_new", -1, 0)
		if f.backend.fetched("shared")+f.backend.fetched("a_new") != 0 {
			t.Error("stat asked a backend")
		}
	})
}

func TestStatKnowsWhenTheContentChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		f := newFixture(t)
		at := func(id string, want time.Duration) {
			t.Helper()
			_, changed, err := f.Stat(by(alice), id)
			if got := changed.Sub(start); err != nil || got != want {
				t.Errorf("%s: %v, changed after %v, want %v", id, err, got, want)
			}
		}
		const minute = time.Minute
		f.List(nil, by(alice))
		time.Sleep(minute)
		f.open(t, alice, "a_db")
		at("a_db", 0)
		f.backend.set("a_db", "rotated")
		f.backend.set("a_new", "made meanwhile")
		at("a_db", 0) // nobody has asked the backend
		time.Sleep(minute)
		f.open(t, alice, "a_db")
		at("a_db", 2*minute)
		f.open(t, alice, "a_new")
		at("a_new", 2*minute)

		time.Sleep(minute)
		f.Replace(f.state)
		f.open(t, alice, "a_db")
		at("a_db", 2*minute)

		_, err := f.Open(nil, by(alice), "a_late")
		wantKind(t, "open", err, conn.Absent)
		f.backend.set("a_late", "now")
		time.Sleep(minute)
		f.open(t, alice, "a_late")
		at("a_late", 4*minute)
		f.List(nil, by(alice))
		f.backend.set("a_listed", "now")
		time.Sleep(minute)
		f.List(nil, by(alice))
		at("a_listed", 5*minute)
	})
}

func TestListAsksAgainOnlyWhenItIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = 100 * time.Millisecond
		all := []string{"a_db", "bobs", "shared"}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if ids, err := f.List(nil, by(alice)); !slices.Equal(ids, all) || err != nil {
					t.Errorf("listing %q, %v", ids, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(4 * time.Second)
		f.List(nil, by(bob))
		if n := f.backend.listed(); n != 1 {
			t.Errorf("the backends were asked %d times", n)
		}
		time.Sleep(2 * time.Second)
		f.List(nil, by(bob))
		if n := f.backend.listed(); n != 2 {
			t.Errorf("the backends were asked %d times", n)
		}
	})
}

// Who lists in a loop does not spend the request rate of the site, whoever it is.
func TestTheRateOfListingsFollowsTheirCost(t *testing.T) {
	for _, c := range []struct {
		name    string
		calls   int
		delay   time.Duration
		partial bool
		down    bool
		during  time.Duration
		want    int // the listings meanwhile
	}{
		{"a cheap one", 0, 0, false, false, time.Minute, 12},
		{"of one page", 1, 0, false, false, time.Minute, 12},
		{"of 20 pages", 20, 0, false, false, 10 * time.Minute, 10},
		{"of 1000 pages", 1000, 0, false, false, time.Hour, 6},
		{"that takes 2 seconds", 0, 2 * time.Second, false, false, 10 * time.Minute, 15},
		{"of 20 pages, while another backend is down", 20, 0, true, false, 10 * time.Minute, 10},
		{"while everything is down", 0, 0, false, true, 10 * time.Minute, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.backend.calls, f.backend.delay, f.backend.partial = c.calls, c.delay, c.partial
				if c.down {
					f.backend.listErr = conn.Errorf(conn.Unreachable, "fake", "down")
				}
				var loops sync.WaitGroup
				until := time.Now().Add(c.during - time.Millisecond)
				for _, uid := range []uint32{alice, bob} {
					loops.Go(func() {
						for time.Now().Before(until) {
							f.List(nil, by(uid))
							f.Listed(by(uid))
							time.Sleep(100 * time.Millisecond)
						}
					})
				}
				loops.Wait()
				if n := f.backend.listed(); n != c.want {
					t.Errorf("the backends were asked %d times, want %d", n, c.want)
				}
			})
		})
	}
}

// What shows that something does not exist is fresh, however seldom the backends are asked.
func TestAnOldListingDoesNotTellWhatIsAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.calls = 20
		f.List(nil, by(alice))
		_, _, err := f.Stat(by(alice), "a_new")
		wantKind(t, "stat", err, conn.Absent)
		time.Sleep(5 * time.Second)
		f.List(nil, by(alice))
		if size, _, err := f.Stat(by(alice), "a_new"); size != -1 || err != nil {
			t.Errorf("stat: %d, %v", size, err)
		}
	})
}

// The environment answers to ids in any case, and lists one spelling.
func TestAListingThatIsNotCompleteReplacesTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.blind = true
		f.List(nil, by(alice))
		for range 3 {
			f.backend.mu.Lock()
			f.backend.values = map[string]string{"a_env": "x"}
			f.backend.mu.Unlock()
			time.Sleep(5 * time.Second)
			if ids, _ := f.List(nil, by(alice)); !slices.Equal(ids, []string{"a_env"}) {
				t.Errorf("listing %q", ids)
			}
		}
		if f.backend.listed() != 4 {
			t.Errorf("%d listings", f.backend.listed())
		}
		if size, _, err := f.Stat(by(alice), "a_new"); size != -1 || err != nil {
			t.Errorf("stat: %d, %v", size, err)
		}
	})
}

func TestAListingThatDidNotChangeIsTheSameSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		first, _ := f.List(nil, by(alice))
		time.Sleep(6 * time.Second)
		again, _ := f.List(nil, by(alice))
		if f.backend.listed() != 2 || &first[0] != &again[0] {
			t.Errorf("%d listings, and another slice", f.backend.listed())
		}
	})
}

// Listed has an old listing renewed, and waits for nobody.
func TestListedDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		start := time.Now()
		if ids := f.Listed(by(alice)); ids != nil || time.Since(start) > 0 {
			t.Errorf("listed %q after %v", ids, time.Since(start))
		}
		time.Sleep(2 * time.Second)
		if ids := f.Listed(by(alice)); len(ids) != 3 {
			t.Errorf("listed %q", ids)
		}
		f.backend.set("a_new", "")
		time.Sleep(20 * time.Second)
		if ids := f.Listed(by(alice)); len(ids) != 3 || time.Since(start) != 22*time.Second {
			t.Errorf("listed %q after %v", ids, time.Since(start))
		}
		time.Sleep(2 * time.Second)
		if ids := f.Listed(by(alice)); len(ids) != 4 {
			t.Errorf("listed %q", ids)
		}
	})
}

func TestListShowsWhatIsKnownWhileABackendIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.List(nil, by(alice))
		time.Sleep(6 * time.Second)
		f.backend.mu.Lock()
		f.backend.values = map[string]string{"a_env": "x"}
		f.backend.partial = true
		f.backend.mu.Unlock()
		if ids, err := f.List(nil, by(alice)); err != nil ||
			!slices.Equal(ids, []string{"a_db", "a_env", "bobs", "shared"}) {
			t.Errorf("listing %q, %v", ids, err)
		}
		time.Sleep(2 * time.Second)
		f.backend.mu.Lock()
		f.backend.listErr = conn.Errorf(conn.Unreachable, "fake", "down")
		f.backend.mu.Unlock()
		if ids, err := f.List(nil, by(alice)); err != nil || len(ids) != 4 {
			t.Errorf("listing %q, %v", ids, err)
		}
		synctest.Wait()
		if !bytes.Contains(f.log.Bytes(), []byte("down")) {
			t.Error("nothing in the log says so")
		}
	})
}

func TestAnInterruptedListingIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		cancel := make(chan struct{})
		close(cancel)
		_, err := f.List(cancel, by(alice))
		wantKind(t, "list", err, conn.Interrupted)
		time.Sleep(time.Second)
	})
}

// A reload while a listing is under way must not show an empty directory.
func TestAListingDuringAReplaceIsThatOfTheNewConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		var ids []string
		var wg sync.WaitGroup
		wg.Go(func() { ids, _ = f.List(nil, by(alice)) })
		synctest.Wait()
		st := *f.state
		st.Fetcher = &backend{cache: f.cache, values: map[string]string{"a_db": "", "a_two": ""}}
		f.Replace(&st)
		wg.Wait()
		if !slices.Equal(ids, []string{"a_db", "a_two"}) {
			t.Errorf("listing %q", ids)
		}
	})
}

func TestFailuresAreLoggedOnceASecondAndRefusalsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.fail("a_db", conn.Errorf(conn.KeyRejected, "fake", "the key does not open it"))
		lines := func() int {
			synctest.Wait()
			return bytes.Count(f.log.Bytes(), []byte("\n"))
		}
		for range 100 {
			f.Open(nil, by(alice), "a_db")
			f.Open(nil, by(eve), "a_db")
		}
		if n := lines(); n != 1 {
			t.Errorf("%d lines", n)
		}
		time.Sleep(time.Second)
		f.Open(nil, by(alice), "a_db")
		f.Open(nil, by(alice), "a_new")
		if n := lines(); n != 3 {
			t.Errorf("%d lines", n)
		}
	})
}

func TestFailuresOfOneUserAreFewLinesAndHideNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for i := range 60 {
			f.Open(nil, by(alice), fmt.Sprint("a_invented", i))
		}
		f.backend.fail("shared", conn.Errorf(conn.KeyRejected, "fake", "the key does not open it"))
		f.Open(nil, by(bob), "shared")
		synctest.Wait()
		if n := bytes.Count(f.log.Bytes(), []byte("\n")); n != broker.MaxUIDFailures+1 ||
			!bytes.Contains(f.log.Bytes(), []byte("uid=1002")) {
			t.Errorf("%d lines:\n%s", n, f.log)
		}
		time.Sleep(time.Second)
		f.Open(nil, by(bob), "shared")
		synctest.Wait()
		if !bytes.Contains(f.log.Bytes(), fmt.Appendf(nil, "count=%d", 60-broker.MaxUIDFailures)) {
			t.Errorf("nothing says how many more there were:\n%s", f.log)
		}
	})
}

// blockedWriter is a log whose reader is frozen.
type blockedWriter chan struct{}

func (w blockedWriter) Write(b []byte) (int, error) {
	<-w
	return len(b), nil
}

func TestAFrozenLogStallsNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stuck := make(blockedWriter)
		b := broker.New(broker.Config{
			State: f.state, Cache: f.cache, Errno: errno,
			Log: slog.New(slog.NewTextHandler(stuck, nil)),
		})
		start := time.Now()
		for i := range 300 {
			_, err := b.Open(nil, by(alice), fmt.Sprint("a_invented", i%20))
			wantKind(t, "open", err, conn.Absent)
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("readers waited %v", d-30*time.Second)
		}
		close(stuck)
	})
}

// Many users, ids, interrupts and reloads at once: each reader gets whole content that the
// policy allowed at some moment, and no pin is lost.
func TestManyReadersAtOnce(t *testing.T) {
	f := newFixture(t)
	f.state.TTL, f.state.NegativeTTL = time.Millisecond, time.Millisecond
	for i := range 20 {
		f.backend.set(fmt.Sprintf("a_%d", i), fmt.Sprintf("content of %d", i))
	}
	stop := make(chan struct{})
	var reloads, readers sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				st := *f.state
				f.Replace(&st)
				f.SetPolicy(st.Policy)
			}
		}
	})
	for w := range 16 {
		readers.Go(func() {
			for i := range 300 {
				n := (w + i) % 20
				id, want := fmt.Sprintf("a_%d", n), fmt.Sprintf("content of %d", n)
				var cancel chan struct{}
				if i%7 == 0 {
					cancel = make(chan struct{})
					close(cancel)
				}
				version, err := f.Open(cancel, by(alice), id)
				if err != nil {
					if cancel == nil || conn.KindOf(err) != conn.Interrupted {
						t.Errorf("open: %v", err)
					}
					continue
				}
				data, _, release, err := f.Read(nil, by(alice), id, version, 0, 100)
				if err != nil || string(bytes.Join(data, nil)) != want {
					t.Errorf("read: %q, %v", data, err)
				}
				if release != nil {
					release()
				}
				f.Stat(by(alice), id)
				f.List(nil, by(alice))
				if _, err := f.Open(nil, by(eve), id); conn.KindOf(err) != conn.NotGranted {
					t.Errorf("a stranger's open: %v", err)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	reloads.Wait()
	f.settle()
	f.cache.Clear()
	v, err := f.cache.Reserve(1<<20 - cache.PageSize)
	if err != nil {
		t.Fatal("pages are still pinned")
	}
	v.Release()
}
