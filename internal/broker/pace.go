package broker

import (
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

// A refusal costs the daemon as much as an answer, and one user can ask tens of thousands
// of times a second. So refusals beyond a rate are held back: whoever asks in vain waits,
// and not who reads.
const (
	// in the long run, for each uid that has grants and for all others together
	refusalEvery = time.Millisecond
	refusalBurst = 200 * time.Millisecond // saved up while nobody was refused: 200 refusals at once
	refusalWait  = time.Second            // the longest wait
)

// pacer says how long each refusal waits.
type pacer struct {
	mu sync.Mutex
	// when the next refusal of a uid with grants is due; as few as the configuration names
	byUID     map[uint32]time.Time
	strangers time.Time // of all others, who could have any number of uids
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

// Pace holds a request back that is about to be refused with err, where the caller is
// refused too often. It is for requests during which the kernel holds nothing that others
// wait for: not for LOOKUP and READ, whose directory entries, pages and places in the
// background queue are shared.
func (b *Broker) Pace(cancel <-chan struct{}, c conn.Caller, err error) {
	switch conn.KindOf(err) {
	case conn.NotGranted, conn.NoSlot:
	default:
		return
	}
	wait := b.pacer.wait(c.UID, !b.state.Load().Policy.ReadsAnything(c.UID), time.Now())
	if wait < refusalEvery {
		return // less than a timer is good for
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cancel:
	}
}
