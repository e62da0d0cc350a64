package broker_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connfs/connfs/conn"
)

// refuse has n readers of uid be refused at once, and returns when the last one was.
func (f *fixture) refuse(n int, uid uint32, kind conn.Kind) time.Duration {
	start := time.Now()
	var readers sync.WaitGroup
	for range n {
		readers.Go(func() { f.Pace(nil, by(uid), conn.Errorf(kind, "", "no")) })
	}
	readers.Wait()
	return time.Since(start)
}

func TestRefusalsBeyondARateWait(t *testing.T) {
	const stranger, another = 4711, 4712
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for _, c := range []struct {
			name string
			n    int
			uid  uint32
			kind conn.Kind
			want time.Duration
		}{
			{"a few", 200, alice, conn.NotGranted, 0},
			{"more", 500, alice, conn.NotGranted, 500 * time.Millisecond},
			{"another user's", 200, bob, conn.NotGranted, 0},
			{"those of a quota", 100, alice, conn.NoSlot, 100 * time.Millisecond},
			{"answers of another kind", 5000, alice, conn.Absent, 0},
			{"of an answer", 5000, alice, conn.Unreachable, 0},
			{"a stranger's", 300, stranger, conn.NotGranted, 100 * time.Millisecond},
			{"another stranger's", 100, another, conn.NotGranted, 100 * time.Millisecond},
			{"a crowd's", 50_000, stranger, conn.NotGranted, time.Second},
		} {
			if got := f.refuse(c.n, c.uid, c.kind); got < c.want || got > c.want+time.Millisecond {
				t.Errorf("%s: the last was answered after %v, want %v", c.name, got, c.want)
			}
		}
		time.Sleep(2 * time.Second)
		if got := f.refuse(200, stranger, conn.NotGranted); got != 0 {
			t.Errorf("a stranger waits %v for what happened long ago", got)
		}
	})
}

func TestACallerThatIsHeldBackCanBeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.refuse(900, alice, conn.NotGranted)
		f.refuse(1, alice, conn.NotGranted)
		cancel := make(chan struct{})
		start := time.Now()
		var readers sync.WaitGroup
		for range 900 {
			readers.Go(func() { f.Pace(cancel, by(alice), conn.Errorf(conn.NotGranted, "", "no")) })
		}
		time.Sleep(10 * time.Millisecond)
		close(cancel)
		readers.Wait()
		if took := time.Since(start); took != 10*time.Millisecond {
			t.Errorf("they went after %v", took)
		}
	})
}
