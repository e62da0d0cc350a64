package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/audit"
)

// line is what these tests look at.
type line struct {
	UID     uint32 `json:"uid"`
	ID      string `json:"id"`
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule"`
	Errno   string `json:"errno"`
	Count   uint64 `json:"count"`
}

// sink keeps what is written.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

// take returns the lines since the last call.
func (s *sink) take(t *testing.T) []line {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []line
	for d := json.NewDecoder(&s.buf); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	s.buf.Reset()
	return out
}

func counted(lines []line) (n uint64) {
	for _, l := range lines {
		n += l.Count
	}
	return n
}

func refused(uid uint32, id string) *audit.Entry {
	return &audit.Entry{
		Time: time.Now(), Op: "open", UID: uid, ID: id, Rule: "no grant for this uid",
		Errno: "EACCES", Stranger: true,
	}
}

func TestRepeatedRefusalsAreOneLineWithACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(sink)
		l := audit.NewLog(out, audit.Config{})
		defer l.Close()
		for range 39000 {
			l.Write(refused(6666, "pg"), soon())
		}
		want := line{UID: 6666, ID: "pg", Rule: "no grant for this uid", Errno: "EACCES", Count: 1}
		if diff := cmp.Diff([]line{want}, out.take(t)); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		want.Count = 38999
		if diff := cmp.Diff([]line{want}, out.take(t)); diff != "" {
			t.Errorf("when the second is over (-want +got):\n%s", diff)
		}
		l.Write(refused(6666, "pg"), soon())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want.Count = 1
		if diff := cmp.Diff([]line{want}, out.take(t)); diff != "" {
			t.Errorf("one in the next second (-want +got):\n%s", diff)
		}
	})
}

func TestStrangersShareOneBudgetOfLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(sink)
		l := audit.NewLog(out, audit.Config{})
		defer l.Close()
		for i := range 10000 {
			l.Write(refused(uint32(7000+i%100), fmt.Sprint("invented", i/2)), soon())
		}
		// This affects neither users with grants of their own nor granted reads.
		known := refused(1001, "other")
		known.Stranger = false
		l.Write(known, soon())
		for range 1000 {
			l.Write(&audit.Entry{UID: 1001, ID: "mine", Allowed: true}, soon())
		}
		granted := 0
		now := out.take(t)
		for _, got := range now {
			if got.Allowed {
				granted++
			}
		}
		if granted != 1000 || len(now) != 1000+1+50 {
			t.Errorf("%d lines of granted reads among %d", granted, len(now))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		later := out.take(t)
		if len(later) != 1 || later[0].ID != "" || later[0].UID != 7099 ||
			later[0].Rule != "refusals over the budget" {
			t.Errorf("when the second is over: %+v", later)
		}
		if n := counted(now) + counted(later); n != 10000+1+1000 {
			t.Errorf("the counts add up to %d", n)
		}
	})
}

func TestCloseWritesWhatIsStillCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(sink)
		l := audit.NewLog(out, audit.Config{})
		for i := range 500 {
			l.Write(refused(6666, fmt.Sprint(i%200)), soon())
			known := refused(1001, "a")
			known.Stranger = false
			l.Write(known, soon())
		}
		l.Close()
		if n := counted(out.take(t)); n != 1000 {
			t.Errorf("the counts add up to %d", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if again := out.take(t); again != nil {
			t.Errorf("written twice: %+v", again)
		}
	})
}

// Each refusal is counted exactly once, at whatever moment it comes.
func TestCountsAddUpUnderConcurrency(t *testing.T) {
	out := new(sink)
	l := audit.NewLog(out, audit.Config{})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 5000 {
				e := refused(uint32(w%3), fmt.Sprint(i%80))
				e.Stranger = w%2 == 0
				l.Write(e, soon())
			}
		})
	}
	writers.Wait()
	l.Close()
	if n := counted(out.take(t)); n != 40000 {
		t.Errorf("the counts add up to %d", n)
	}
}
