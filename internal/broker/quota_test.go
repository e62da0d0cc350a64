package broker_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connfs/connfs/conn"
)

// fill has n readers of uid open ids that take long to fetch, and returns when they
// wait.
func (f *fixture) fill(
	t *testing.T, readers *sync.WaitGroup, uid uint32, n int, cancel <-chan struct{},
) {
	t.Helper()
	for i := range n {
		readers.Go(func() { f.Open(cancel, by(uid), fmt.Sprint("a_slow", i)) })
		synctest.Wait() // in this order
	}
}

func TestFetchesOfOneUserWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		var readers sync.WaitGroup
		for i := range 40 {
			f.backend.set(fmt.Sprint("a_slow", i), "x")
			readers.Go(func() {
				start := time.Now()
				f.open(t, alice, fmt.Sprint("a_slow", i))
				if d, want := time.Since(start), time.Duration(i/16+1)*time.Second; d != want {
					t.Errorf("the %dth was served after %v, want %v", i+1, d, want)
				}
			})
			synctest.Wait()
		}
		// This delays neither Bob nor those who read an id that is under way.
		start := time.Now()
		f.open(t, bob, "shared")
		f.open(t, alice, "a_slow3")
		if d := time.Since(start); d != time.Second {
			t.Errorf("others waited %v", d)
		}
		readers.Wait()
	})
}

func TestAQueuedFetchWaitsNoLongerThanAReadMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = 3 * time.Second
		var readers sync.WaitGroup
		f.fill(t, &readers, alice, 32, nil)
		start := time.Now()
		_, err := f.Open(nil, by(alice), "a_db")
		wantKind(t, "open", err, conn.Timeout)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("blocked for %v", d)
		}
		readers.Wait()
		if n := f.backend.fetched("a_db"); n != 0 {
			t.Errorf("%d fetches for a reader that was gone", n)
		}
	})
}

// Interrupted readers must not leave a queue that grows without end.
func TestAQueuedFetchGoesWithItsLastReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		var readers sync.WaitGroup
		f.fill(t, &readers, alice, 16, nil)
		cancel := make(chan struct{})
		for i := range 500 {
			readers.Go(func() {
				_, err := f.Open(cancel, by(alice), fmt.Sprint("a_queued", i/2))
				wantKind(t, "open", err, conn.Interrupted)
			})
		}
		synctest.Wait()
		close(cancel)
		readers.Wait()
		start := time.Now()
		f.open(t, alice, "a_db")
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v", d)
		}
		if n := f.backend.fetched("a_queued0"); n != 0 {
			t.Errorf("%d fetches for readers that were gone", n)
		}
	})
}

func TestAnIDInOnesQueueIsFetchedAtOnceForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = 2 * time.Second
		var readers sync.WaitGroup
		f.fill(t, &readers, alice, 24, nil)
		readers.Go(func() { f.open(t, alice, "shared") })
		synctest.Wait()
		start := time.Now()
		f.open(t, bob, "shared")
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("waited %v", d)
		}
		readers.Wait()
		if n := f.backend.fetched("shared"); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestAReloadLeavesNoQueuedReaderBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Second
		var readers sync.WaitGroup
		f.fill(t, &readers, alice, 16, nil)
		readers.Go(func() { f.open(t, alice, "a_db") })
		synctest.Wait()
		st := *f.state
		f.Replace(&st)
		readers.Wait()
		f.fill(t, &readers, alice, 16, nil)
		readers.Wait()
	})
}

func TestInventedIDsReachTheBackendsAFewTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.open(t, alice, "shared")
		f.List(nil, by(alice))
		for second := range 3 {
			again, fetched := 0, 0
			for i := range 1000 {
				id := fmt.Sprintf("a_%d_%d", second, i)
				_, err := f.Open(nil, by(alice), id)
				switch conn.KindOf(err) {
				case conn.NoSlot:
					again++
				case conn.Absent:
				default:
					t.Fatalf("%s: %v", id, err)
				}
				fetched += f.backend.fetched(id)
			}
			if fetched != 64 || again != 1000-64 {
				t.Errorf("%d invented ids were fetched, %d answered EAGAIN", fetched, again)
			}
			// Ids that are known are still served, to the same user too.
			f.open(t, alice, "shared")
			f.open(t, alice, "a_db")
			time.Sleep(time.Second)
		}
	})
}

// An id that exists is not taken for an invented one, even if it was never listed.
func TestManyUnknownIDsThatExistAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.backend.delay = time.Millisecond
		var readers sync.WaitGroup
		for i := range 200 {
			id := fmt.Sprint("a_there", i)
			f.backend.set(id, "x")
			readers.Go(func() { f.open(t, alice, id) })
		}
		readers.Wait()
	})
}

func TestOneUsersValuesDoNotPushOutAnothers(t *testing.T) {
	f := newFixture(t)
	f.open(t, bob, "shared")
	for i := range 1000 {
		id := fmt.Sprint("a_there", i)
		f.backend.set(id, "x")
		f.open(t, alice, id)
	}
	f.open(t, bob, "shared")
	if n := f.backend.fetched("shared"); n != 1 {
		t.Errorf("%d fetches", n)
	}
}
