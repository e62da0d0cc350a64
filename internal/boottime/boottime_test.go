package boottime

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheClockRunsOnWithTheMonotonicOne(t *testing.T) {
	before, elapsed := Now(), Elapsed()
	time.Sleep(20 * time.Millisecond)
	if d := Elapsed() - elapsed; d < 20*time.Millisecond {
		t.Errorf("Elapsed went on by %v", d)
	}
	if d := Since(before); d < 19*time.Millisecond { // what was suspended is rounded
		t.Errorf("Since says %v", d)
	}
}

func TestTestsCanMoveTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := Now()
		time.Sleep(time.Hour)
		if d := Since(start); d != time.Hour {
			t.Errorf("an hour later it is %v", d)
		}
	})
}

func TestNobodyIsToldOfASuspendThatWasNone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	resumed, err := Resumed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-resumed:
		t.Error("resumed")
	case <-time.After(20 * time.Millisecond):
	}
}
