package cache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// newCache returns a cache with room for pages pages of values.
func newCache(t *testing.T, pages int) *Cache {
	t.Helper()
	c, err := New((pages + 1) * PageSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pattern is n bytes without a zero among them, so that a wiped page shows.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i%251)%200 + 1 + seed%50
	}
	return b
}

// put stores content under key and gives the pin back.
func put(t *testing.T, c *Cache, key string, content []byte, ttl time.Duration) *Value {
	t.Helper()
	v := reserve(t, c, content)
	c.Commit(key, v, Origin{Backend: "test"}, ttl)
	v.Release()
	return v
}

func reserve(t *testing.T, c *Cache, content []byte) *Value {
	t.Helper()
	v, err := c.Reserve(len(content))
	if err != nil {
		t.Fatal(err)
	}
	for at, parts := 0, v.Slices(0, len(content)); len(parts) > 0; parts = parts[1:] {
		at += copy(parts[0], content[at:])
	}
	return v
}

func bytesOf(v *Value) []byte { return bytes.Join(v.Slices(0, v.Size()), nil) }

// holds reports whether the region holds content's beginning anywhere.
func holds(c *Cache, content []byte) bool {
	return bytes.Contains(c.region.Bytes(), content[:min(len(content), 32)])
}

// wiped fails unless every byte of the region is zero and every page is free.
func wiped(t *testing.T, c *Cache) {
	t.Helper()
	for i, b := range c.region.Bytes() {
		if b != 0 {
			t.Fatalf("byte %d of the region is not zero", i)
		}
	}
	if want := len(c.region.Bytes())/PageSize - 1; len(c.free) != want {
		t.Errorf("%d pages are free, want %d", len(c.free), want)
	}
}

func TestValuesOfEverySizeAreServedByteForByte(t *testing.T) {
	for _, n := range []int{0, 1, PageSize - 1, PageSize, PageSize + 1, 3*PageSize + 5, MaxValue} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newCache(t, MaxValue/PageSize+1)
			want := pattern(n, 0)
			put(t, c, "id", want, time.Hour)
			v := c.Get("id")
			if v == nil {
				t.Fatal("not there")
			}
			if v.Size() != n || v.Origin().Backend != "test" || !bytes.Equal(bytesOf(v), want) {
				t.Errorf("%d bytes from %q, or wrong ones", v.Size(), v.Origin().Backend)
			}
			v.Release()
			c.Clear()
			wiped(t, c)
		})
	}
}

func TestSlicesAreWhatAReadAtAnOffsetReturns(t *testing.T) {
	c := newCache(t, 4)
	const size = 2*PageSize + 100
	want := pattern(size, 0)
	v := reserve(t, c, want)
	defer v.Release()
	for _, at := range []struct{ off, n, want int }{
		{0, size, size}, {0, 1, 1}, {PageSize - 1, 2, 2}, {PageSize, PageSize, PageSize},
		{size - 1, 10, 1}, {size, 1, 0}, {size + 1, 1, 0}, {0, 0, 0}, {-1, 5, 0}, {5, -1, 0},
		{100, 1 << 30, size - 100},
	} {
		got := bytes.Join(v.Slices(at.off, at.n), nil)
		if len(got) != at.want {
			t.Errorf("Slices(%d, %d) has %d bytes, want %d", at.off, at.n, len(got), at.want)
		} else if at.want > 0 && !bytes.Equal(got, want[at.off:at.off+at.want]) {
			t.Errorf("Slices(%d, %d) has other bytes", at.off, at.n)
		}
	}
}

func TestReadsDoNotProlongTheLifeOfAValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, 4)
		secret := pattern(5000, 1)
		put(t, c, "id", secret, 5*time.Second)
		for range 9 {
			time.Sleep(500 * time.Millisecond)
			v := c.Get("id")
			if v == nil {
				t.Fatal("gone too early")
			}
			v.Release()
		}
		time.Sleep(500*time.Millisecond - time.Nanosecond)
		synctest.Wait()
		if !holds(c, secret) {
			t.Error("wiped before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if c.Get("id") != nil {
			t.Error("still served after its time")
		}
		wiped(t, c)
	})
}

// Timers do not run while the process is stopped or the machine suspended.
func TestAValueWhoseTimerIsLateIsNotServed(t *testing.T) {
	c := newCache(t, 4)
	for _, drop := range []func(){
		func() {
			if c.Get("id") != nil {
				t.Error("served after its time")
			}
		},
		c.Expire,
	} {
		v := put(t, c, "id", pattern(5000, 1), time.Hour)
		c.Expire()
		if got := c.Get("id"); got != v {
			t.Fatal("gone too early")
		}
		v.Release()
		v.until -= time.Hour
		drop()
		wiped(t, c)
	}
}

func TestTheTimeOfAValueBeginsWhenItWasFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, 4)
		for age, left := range map[time.Duration]time.Duration{
			-time.Second: 5 * time.Second, 0: 5 * time.Second, 3 * time.Second: 2 * time.Second,
			5 * time.Second: 0, time.Hour: 0,
		} {
			v := reserve(t, c, pattern(100, 1))
			v.SetAge(age)
			if got := v.Age(); got != max(0, age) {
				t.Errorf("age %v, want %v", got, max(0, age))
			}
			c.Commit("id", v, Origin{Backend: "test"}, 5*time.Second)
			v.Release()
			time.Sleep(left - min(left, time.Nanosecond))
			if v := c.Get("id"); (v != nil) != (left > 0) {
				t.Errorf("fetched %v ago: there until its end: %v", age, v != nil)
			} else if v != nil {
				v.Release()
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			wiped(t, c)
		}
	})
}

func TestAPinnedValueIsWipedWithItsLastPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, 4)
		secret := pattern(5000, 1)
		put(t, c, "id", secret, time.Second)
		v := c.Get("id")
		v.Pin(1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c.Get("id") != nil {
			t.Error("served after its time, because a reply pins it")
		}
		if !bytes.Equal(bytesOf(v), secret) {
			t.Error("wiped under the reply")
		}
		v.Release()
		if !holds(c, secret) {
			t.Error("wiped with the first of two pins")
		}
		v.Release()
		wiped(t, c)
	})
}

func TestWithoutATTLTheLastReleaseWipes(t *testing.T) {
	c := newCache(t, 2)
	v := reserve(t, c, pattern(10, 0))
	c.Commit("id", v, Origin{Backend: "env", KMS: "main", Key: "k"}, 0)
	if c.Get("id") != nil {
		t.Error("kept")
	}
	if o := v.Origin(); o != (Origin{Backend: "env", KMS: "main", Key: "k"}) || !o.Sealed() {
		t.Errorf("origin %+v", o)
	}
	v.Release()
	wiped(t, c)
}

func TestAnUncommittedValueIsWipedWhenItIsReleased(t *testing.T) {
	c := newCache(t, 2)
	reserve(t, c, pattern(PageSize+1, 0)).Release()
	wiped(t, c)
}

func TestReplacingAKeyLeavesThePinnedOldContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, 4)
		before, after := pattern(100, 1), pattern(100, 9)
		put(t, c, "id", before, time.Minute)
		old := c.Get("id")
		time.Sleep(30 * time.Second)
		put(t, c, "id", after, time.Minute)
		if !bytes.Equal(bytesOf(old), before) {
			t.Error("the reply under way changed")
		}
		v := c.Get("id")
		if !bytes.Equal(bytesOf(v), after) {
			t.Error("the new content is not served")
		}
		v.Release()
		old.Release()
		if holds(c, before) {
			t.Error("the old content is still there")
		}
		// The clock of the old value must not end the new one.
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if v = c.Get("id"); v == nil {
			t.Fatal("the new value went with the old one's time")
		}
		v.Release()
		time.Sleep(time.Minute)
		synctest.Wait()
		wiped(t, c)
	})
}

func TestTheOldestUnpinnedValuesMakeRoom(t *testing.T) {
	c := newCache(t, 4)
	for i := range 4 {
		put(t, c, fmt.Sprint(i), pattern(10, byte(i)), time.Hour)
	}
	pinned := c.Get("0")
	put(t, c, "4", pattern(2*PageSize, 7), time.Hour)
	for key, want := range map[string]bool{
		"0": true, "1": false, "2": false, "3": true, "4": true,
	} {
		v := c.Get(key)
		if (v != nil) != want {
			t.Errorf("%s is there: %v, want %v", key, v != nil, want)
		}
		if v != nil {
			v.Release()
		}
	}
	if !bytes.Equal(bytesOf(pinned), pattern(10, 0)) {
		t.Error("the pinned value changed")
	}
	pinned.Release()
	c.Clear()
	wiped(t, c)
}

// What one uid keeps within its share stays, however much another uid fetches.
func TestOneOwnerCannotPushOutAnother(t *testing.T) {
	c := newCache(t, 10)
	own := func(key string, uid uint32, pages int) {
		t.Helper()
		v := reserve(t, c, pattern(pages*PageSize, byte(uid)))
		v.SetOwner(uid)
		c.Commit(key, v, Origin{}, time.Hour)
		v.Release()
	}
	for i := range 3 {
		own(fmt.Sprint("small", i), 1, 1)
	}
	for i := range 50 {
		own(fmt.Sprint("flood", i), 2, 1+i%3)
	}
	for i := range 3 {
		v := c.Get(fmt.Sprint("small", i))
		if v == nil {
			t.Fatalf("small%d was pushed out", i)
		}
		v.Release()
	}
	// The other way round, the flood makes room.
	own("small3", 1, 2)
	if v := c.Get("small0"); v == nil {
		t.Error("its own value made room although another fills more")
	} else {
		v.Release()
	}
	c.Clear()
	wiped(t, c)
}

func TestErrFullWhenEverythingIsPinned(t *testing.T) {
	c := newCache(t, 2)
	put(t, c, "a", pattern(10, 0), time.Hour)
	a := c.Get("a")
	b := reserve(t, c, pattern(10, 1))
	if _, err := c.Reserve(1); !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	b.Release()
	// There is no room for it, and trying must not lose any room.
	if _, err := c.Reserve(PageSize + 1); !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	v, err := c.Reserve(PageSize)
	if err != nil {
		t.Fatal(err)
	}
	v.Release()
	a.Release()
	c.Clear()
	wiped(t, c)
}

func TestAValueLargerThanTheCacheIsErrFull(t *testing.T) {
	c := newCache(t, 2)
	if _, err := c.Reserve(3 * PageSize); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	wiped(t, c)
}

func TestClearDropsEverything(t *testing.T) {
	c := newCache(t, 4)
	put(t, c, "a", pattern(10, 0), time.Hour)
	secret := pattern(10, 1)
	put(t, c, "b", secret, time.Hour)
	b := c.Get("b")
	c.Clear()
	if c.Get("a") != nil || c.Get("b") != nil {
		t.Error("still served")
	}
	if !bytes.Equal(bytesOf(b), secret) {
		t.Error("wiped under the reply")
	}
	b.Release()
	wiped(t, c)
}

func TestDiscardConsumesEverythingAndKeepsNothing(t *testing.T) {
	c := newCache(t, 1)
	left, largest := 3*PageSize+17, 0
	err := c.Discard(left, func(b []byte) (int, error) {
		largest = max(largest, len(b))
		n := min(len(b), 1000)
		copy(b, pattern(n, 3))
		left -= n
		return n, nil
	})
	if err != nil || left != 0 {
		t.Errorf("error %v, %d bytes left", err, left)
	}
	if largest > PageSize {
		t.Errorf("%d bytes at once", largest)
	}
	wiped(t, c)

	broken := errors.New("broken pipe")
	if err := c.Discard(10, func(b []byte) (int, error) {
		b[0] = 1
		return 0, broken
	}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	wiped(t, c)
}

func TestRegionIsZeroAndKeptOutOfDumps(t *testing.T) {
	r, err := NewRegion(PageSize + 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Bytes()) != PageSize+1 {
		t.Errorf("%d bytes", len(r.Bytes()))
	}
	if !bytes.Equal(r.Bytes(), make([]byte, PageSize+1)) {
		t.Error("not zero")
	}
	flags := vmFlags(t, r.Bytes())
	want := []string{"dd", "dc"} // not dumped, not copied into a fork
	if r.LockError() == nil {
		want = append(want, "lo")
	}
	for _, flag := range want {
		if !flags[flag] {
			t.Errorf("the mapping lacks the flag %q", flag)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Many readers and writers of few keys in a cache that is too small for them: every
// value that is served must be whole, and nothing may stay behind.
func TestConcurrentUseServesWholeValues(t *testing.T) {
	c := newCache(t, 16)
	keys := 8
	content := func(key int) []byte { return pattern(key*1500+1, byte(key)) }
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for range 400 {
				key := random.IntN(keys)
				if v := c.Get(fmt.Sprint(key)); v != nil {
					if !bytes.Equal(bytesOf(v), content(key)) {
						t.Error("a value is not what was stored")
					}
					v.Release()
					continue
				}
				want := content(key)
				v, err := c.Reserve(len(want))
				if errors.Is(err, ErrFull) {
					c.Discard(len(want), func(b []byte) (int, error) {
						clear(b)
						return len(b), nil
					})
					continue
				}
				for at, parts := 0, v.Slices(0, len(want)); len(parts) > 0; parts = parts[1:] {
					at += copy(parts[0], want[at:])
				}
				ttl := time.Duration(random.IntN(3)) * time.Millisecond
				c.Commit(fmt.Sprint(key), v, Origin{}, ttl)
				if random.IntN(50) == 0 {
					c.Clear()
				}
				v.Release()
			}
		})
	}
	wg.Wait()
	c.Clear()
	wiped(t, c)
}
