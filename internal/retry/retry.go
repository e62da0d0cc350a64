// Package retry makes calls again that may do better the next time, for as long as somebody
// waits for them.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Stop is the pause after a try that is the last one.
const Stop time.Duration = -1

// Do calls f, first with 1 and then with the number of each further try, until it succeeds or
// returns [Stop]; pause is how long to wait before the next try. Where ctx would end during
// that pause nobody is kept waiting for it. The error is that of the last try.
func Do(ctx context.Context, f func(try int) (pause time.Duration, err error)) error {
	for try := 1; ; try++ {
		pause, err := f(try)
		if err == nil || pause < 0 || !Wait(ctx, pause) {
			return err
		}
	}
}

// Wait waits for a pause. It returns false at once where ctx would end before, or has no more
// to wait for.
func Wait(ctx context.Context, pause time.Duration) bool {
	if pause <= 0 {
		return true
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Backoff is a pause that doubles with each failure.
type Backoff struct {
	First, Longest time.Duration
}

// After returns the pause after so many failures in a row.
func (b Backoff) After(failures int) time.Duration {
	return min(b.First<<min(max(failures-1, 0), 10), b.Longest)
}

// Jittered returns the same, give or take a half, so that those who failed together do not
// come back together.
func (b Backoff) Jittered(failures int) time.Duration {
	pause := b.After(failures)
	return pause/2 + rand.N(pause)
}
