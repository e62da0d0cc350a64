package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The one who compares times must learn of every change that is known, and of nothing else.
func TestTheTimeOfAChangeMovesWithTheContentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := newContents()
		at := func(id string, size int, want time.Duration) {
			t.Helper()
			k := c.get(id)
			if got := k.changed.Sub(start); k.size != size || got != want {
				t.Errorf("%s: size %d, changed %v after the start; want %d, %v", id, k.size, got,
					size, want)
			}
		}
		const second = time.Second
		time.Sleep(second)
		at("a", -1, 0)
		c.fetched("a", 5, 11, false)
		at("a", 5, 0) // nobody saw it change
		time.Sleep(second)
		c.fetched("a", 5, 11, false)
		at("a", 5, 0)
		c.fetched("a", 6, 12, false)
		at("a", 6, 2*second)
		time.Sleep(second)
		c.fetched("a", 6, 12, true) // it was gone for a moment
		at("a", 6, 2*second)
		c.gone("a")
		at("a", -1, 2*second)
		c.fetched("a", 6, 12, true)
		at("a", 6, 2*second)
		c.forgetSizes()
		at("a", -1, 2*second)
		time.Sleep(second)
		c.fetched("a", 6, 13, false)
		at("a", 6, 4*second)

		c.fetched("new", 1, 14, true)
		at("new", 1, 4*second)

		c.listed([]string{"a", "b", "gone"}, []string{"0", "a", "b", "c", "z"})
		at("b", -1, 0)
		at("gone", -1, 0)
		for _, id := range []string{"0", "c", "z"} {
			at(id, -1, 4*second)
		}
		time.Sleep(second)
		c.fetched("c", 1, 15, false)
		at("c", 1, 4*second)
		c.listed(nil, []string{"c"})
		at("c", 1, 4*second)
	})
}

func TestATimeNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContents()
		c.max = 10
		last := make(map[string]time.Time)
		for i := range uint64(300) {
			time.Sleep(time.Second)
			id := fmt.Sprint("id", i%17) // more than are remembered
			c.fetched(id, 1, 1+i%5, false)
			for id, t0 := range last {
				if now := c.get(id).changed; now.Before(t0) {
					t.Fatalf("%s: from %v back to %v", id, t0, now)
				}
			}
			for i := range 17 {
				id := fmt.Sprint("id", i)
				last[id] = c.get(id).changed
			}
			if len(c.known) > c.max {
				t.Fatalf("%d are remembered", len(c.known))
			}
		}
		ahead := time.Now().Add(time.Hour) // as if the clock had been set back
		if got := after(ahead); !got.After(ahead) {
			t.Errorf("after %v comes %v", ahead, got)
		}
	})
}
