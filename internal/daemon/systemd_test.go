package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// While a service manager takes nothing, nobody waits for it, and the newest states are kept.
func TestAServiceManagerThatTakesNothingHoldsUpNobody(t *testing.T) {
	takes, told := make(chan struct{}), make(chan string, 100)
	m := newManager()
	m.send = func(state string) {
		<-takes
		told <- state
	}
	m.tell("state 0")
	m.flush(time.Millisecond) // it is being told, and no longer waits
	for m.waiting() > 0 {
		time.Sleep(time.Millisecond)
	}
	want := []string{"state 0"}
	for i := 1; i < 50; i++ {
		state := fmt.Sprint("state ", i)
		m.tell(state)
		if i >= 50-maxStates {
			want = append(want, state)
		}
	}
	close(takes)
	m.flush(time.Minute)
	close(told)
	var got []string
	for state := range told {
		got = append(got, state)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func (m *manager) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.states)
}
