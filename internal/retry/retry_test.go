package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/retry"
)

var errFailed = errors.New("failed")

// attempt is what is tried; it notes in tries how often.
type attempt func(tries *int) func(int) (time.Duration, error)

// failing fails so often, with a pause of a second after each failure.
func failing(times int) attempt {
	return func(tries *int) func(int) (time.Duration, error) {
		return func(try int) (time.Duration, error) {
			if *tries = try; try > times {
				return 0, nil
			}
			return time.Second, errFailed
		}
	}
}

// final fails for good.
func final(tries *int) func(int) (time.Duration, error) {
	return func(try int) (time.Duration, error) {
		*tries = try
		return retry.Stop, errFailed
	}
}

func TestTriesAreMadeUntilOneSucceedsOrTimeIsUp(t *testing.T) {
	for name, c := range map[string]struct {
		attempt  attempt
		deadline time.Duration
		tries    int
		took     time.Duration
		err      error
	}{
		"success":            {failing(0), time.Minute, 1, 0, nil},
		"after two failures": {failing(2), time.Minute, 3, 2 * time.Second, nil},
		"out of time":        {failing(99), 2500 * time.Millisecond, 3, 2 * time.Second, errFailed},
		"the last one":       {final, time.Minute, 1, 0, errFailed},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
			defer cancel()
			start, tries := time.Now(), 0
			err := retry.Do(ctx, c.attempt(&tries))
			if tries != c.tries || time.Since(start) != c.took || !errors.Is(err, c.err) {
				t.Errorf("%s: %d tries in %v: %v", name, tries, time.Since(start), err)
			}
		})
	}
}

func TestAWaitEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if retry.Wait(ctx, time.Minute) || time.Since(start) != time.Second {
			t.Errorf("it waited for %v", time.Since(start))
		}
	})
}

func TestABackoffDoublesUpToItsLongest(t *testing.T) {
	b := retry.Backoff{First: 100 * time.Millisecond, Longest: time.Second}
	var got []time.Duration
	for _, failures := range []int{0, 1, 2, 3, 4, 5, 1000} {
		got = append(got, b.After(failures))
		if d := b.Jittered(failures); d < b.After(failures)/2 || d > b.After(failures)*3/2 {
			t.Errorf("%d failures: %v", failures, d)
		}
	}
	ms := time.Millisecond
	want := []time.Duration{100 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1000 * ms, 1000 * ms}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
