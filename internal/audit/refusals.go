package audit

import (
	"sync"
	"time"
)

// window is the time within which repeated refusals are one line.
const window = time.Second

// maxRefused is how many different refusals get lines of their own in a window, for each
// uid that has grants and for all others together. With the lines that sum repetitions,
// and the one for all that exceed it, that makes 101 lines a second.
const maxRefused = 50

// overBudget is the rule of the line that sums the refusals beyond maxRefused.
const overBudget = "refusals over the budget"

// refusals turns refused requests into few lines. A user can be refused tens of thousands
// of times a second, and must neither fill the disk nor hide what others do. Only detail
// is lost: the counts of the lines add up to the number of refusals.
type refusals struct {
	write func(*Entry)

	mu        sync.Mutex
	budgets   map[uint32]*budget // of the uids with grants, which are few
	strangers *budget            // of all other uids together
	closed    bool
}

// budget counts the refusals of one uid, or of all strangers, within one window. It begins
// with a refusal.
type budget struct {
	timer *time.Timer
	seen  map[refusal]*Entry // Count is the number of refusals after the first
	over  Entry              // sums the refusals beyond maxRefused
}

// refusal is what makes two refusals the same.
type refusal struct {
	uid                        uint32
	mount, op, id, errno, rule string
	kms, key                   string
}

// admit reports whether e gets a line of its own now. If not it is counted, and written
// when the window ends.
func (r *refusals) admit(e *Entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return true
	}
	b := r.budget(e)
	key := refusal{e.UID, e.Mount, e.Op, e.ID, e.Errno, e.Rule, e.KMS, e.Key}
	if again := b.seen[key]; again != nil {
		count := again.Count + 1
		*again = *e
		again.Count = count
		return false
	}
	if len(b.seen) < maxRefused {
		b.seen[key] = new(Entry)
		return true
	}
	count := b.over.Count + 1
	b.over = *e
	b.over.Count, b.over.ID, b.over.Rule = count, "", overBudget
	b.over.Source, b.over.Sealed, b.over.KMS, b.over.Key = "", false, "", ""
	return false
}

// budget returns the budget of e's uid. r.mu is held.
func (r *refusals) budget(e *Entry) *budget {
	b := r.budgets[e.UID]
	if e.Stranger {
		b = r.strangers
	}
	if b != nil {
		return b
	}
	b = &budget{seen: make(map[refusal]*Entry)}
	if e.Stranger {
		r.strangers = b
	} else {
		if r.budgets == nil {
			r.budgets = make(map[uint32]*budget)
		}
		r.budgets[e.UID] = b
	}
	uid, stranger := e.UID, e.Stranger
	b.timer = time.AfterFunc(window, func() {
		if r.remove(b, uid, stranger) {
			r.sum(b)
		}
	})
	return b
}

// remove ends a window. It reports false if close has ended it already.
func (r *refusals) remove(b *budget, uid uint32, stranger bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case stranger && r.strangers == b:
		r.strangers = nil
	case !stranger && r.budgets[uid] == b:
		delete(r.budgets, uid)
	default:
		return false
	}
	return true
}

// sum writes the lines of a window that has ended.
func (r *refusals) sum(b *budget) {
	for _, e := range b.seen {
		if e.Count > 0 {
			r.write(e)
		}
	}
	if b.over.Count > 0 {
		r.write(&b.over)
	}
}

// close writes what is still counted. Later refusals get a line each.
func (r *refusals) close() {
	r.mu.Lock()
	windows := []*budget{r.strangers}
	for _, b := range r.budgets {
		windows = append(windows, b)
	}
	r.strangers, r.budgets, r.closed = nil, nil, true
	r.mu.Unlock()
	for _, b := range windows {
		if b != nil {
			b.timer.Stop()
			r.sum(b)
		}
	}
}
