package broker

import (
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

// A refusal costs the daemon as much as an answer, and one user can ask tens of thousands
// of times a second. So refusals beyond a rate are held back: those who are refused wait,
// and not those who read.
const (
	// refusalEvery is the time between two refusals in the long run: of each uid that has
	// grants, and of all other uids together.
	refusalEvery = time.Millisecond
	// refusalBurst is how much of it can be saved up while nobody is refused: enough for
	// 200 refusals at once.
	refusalBurst = 200 * time.Millisecond
	// refusalWait is the longest wait.
	refusalWait = time.Second
)

// pacer says how long each refusal waits.
type pacer struct {
	mu sync.Mutex
	// byUID is when the next refusal is due of each uid that has grants; these are few.
	byUID map[uint32]time.Time
	// strangers is the same for all other uids together, of which there can be any number.
	strangers time.Time
}

// wait counts a refusal at now and returns how long it has to wait.
func (p *pacer) wait(uid uint32, stranger bool, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.strangers
	if !stranger {
		due = p.byUID[uid]
	}
	if earliest := now.Add(-refusalBurst); due.Before(earliest) {
		due = earliest
	}
	due = due.Add(refusalEvery)
	if latest := now.Add(refusalWait); due.After(latest) {
		due = latest
	}
	if stranger {
		p.strangers = due
	} else {
		if p.byUID == nil {
			p.byUID = make(map[uint32]time.Time)
		}
		p.byUID[uid] = due
	}
	return max(0, due.Sub(now))
}

// Pace holds back a request that is about to be refused with err, if the caller is refused
// too often. It is only for requests during which the kernel holds nothing that other users
// wait for: not for LOOKUP and READ, since directory entries, pages and places in the
// kernel's background queue are shared.
func (b *Broker) Pace(cancel <-chan struct{}, c conn.Caller, err error) {
	switch conn.KindOf(err) {
	case conn.NotGranted, conn.NoSlot:
	default:
		return
	}
	wait := b.pacer.wait(c.UID, !b.state.Load().Policy.ReadsAnything(c.UID), time.Now())
	if wait < refusalEvery {
		return // too short for a timer
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cancel:
	}
}
