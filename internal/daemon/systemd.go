package daemon

import (
	"fmt"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// maxStates is how many states may wait for a service manager that takes none.
const maxStates = 16

// manager tells states to the service manager, if that started connfs, in their order. A service
// manager that takes nothing holds up nobody: of the states that wait, the newest are kept.
type manager struct {
	send func(state string) // may wait

	mu      sync.Mutex
	states  []string
	sending chan struct{} // closed when everything is told; nil: it is
}

// newManager returns a manager that tells systemd, or whoever speaks its protocol.
func newManager() *manager {
	return &manager{send: func(state string) {
		// Without a service manager there is nobody to tell, and nothing that a failure would
		// change.
		_, _ = sd.SdNotify(false, state)
	}}
}

// tell has a state told, and does not wait for that.
func (m *manager) tell(state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states = append(m.states, state)
	if len(m.states) > maxStates {
		m.states = m.states[1:]
	}
	if m.sending == nil {
		m.sending = make(chan struct{})
		go m.drain()
	}
}

func (m *manager) drain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.states) > 0 {
		state := m.states[0]
		m.states = m.states[1:]
		m.mu.Unlock()
		m.send(state)
		m.mu.Lock()
	}
	close(m.sending)
	m.sending = nil
}

// flush waits until everything is told, for d at most.
func (m *manager) flush(d time.Duration) {
	m.mu.Lock()
	sending := m.sending
	m.mu.Unlock()
	if sending == nil {
		return
	}
	select {
	case <-sending:
	case <-time.After(d):
	}
}

// reloading returns the message to systemd that a reload begins, with the time by the
// monotonic clock.
func reloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // this clock is always there
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, now.Nano()/1000)
}
