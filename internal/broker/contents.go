package broker

import (
	"strings"
	"time"
)

// contents is what is known of connections beside what they hold: how long each is, and when
// it last changed. It outlives the values, the configuration and, in a part that could be
// handed on, the daemon. It is bounded, and Broker.mu guards it.
type contents struct {
	known map[string]content
	// since is when everything that is not known may have changed last: the start, or the last
	// time that something was forgotten. So no time of a change ever goes back.
	since time.Time
	max   int // how many are known at most
}

// content is what is known of one connection.
type content struct {
	size    int       // bytes; -1: not known now
	version uint64    // the keyed digest; 0: it was not fetched yet
	changed time.Time // as far as known
}

// maxContents bounds the connections of which something is known. One that is forgotten
// counts as changed when it is fetched again.
const maxContents = 1 << 17

func newContents() contents {
	return contents{
		known: make(map[string]content), since: time.Now().Round(0), max: maxContents,
	}
}

// get returns what is known of id.
func (c *contents) get(id string) content {
	if k, ok := c.known[id]; ok {
		return k
	}
	return content{size: -1, changed: c.since}
}

// fetched notes what a fetch of id has brought. appeared says that shortly before there was no
// such connection.
//
// The first fetch tells nothing about a change, so what was not seen to change has the time of
// the start: a program that compares times does its work once too often after a restart, and
// not after each first read.
func (c *contents) fetched(id string, size int, version uint64, appeared bool) {
	k := c.get(id)
	if changed := k.version != 0 && k.version != version; changed || k.version == 0 && appeared {
		k.changed = after(k.changed)
	}
	k.size, k.version = size, version
	c.put(id, k)
}

// listed notes what a listing shows that an earlier complete one did not. Both are sorted.
func (c *contents) listed(before, now []string) {
	for _, id := range now {
		for len(before) > 0 && before[0] < id {
			before = before[1:]
		}
		if len(before) > 0 && before[0] == id {
			continue
		}
		if k := c.get(id); k.version == 0 {
			k.changed = after(k.changed)
			c.put(strings.Clone(id), k) // the id is a part of the whole listing
		}
	}
}

// gone notes that there is no connection id now. If it comes back as it was, it has not changed.
func (c *contents) gone(id string) {
	if k, ok := c.known[id]; ok {
		k.size = -1
		c.known[id] = k
	}
}

// forgetSizes forgets what another configuration may find otherwise. Digests tell whether it does.
func (c *contents) forgetSizes() {
	for id := range c.known {
		c.gone(id)
	}
}

// after returns the present time, or a later one if the clock was set back: no change may have
// the time of the one before.
func after(last time.Time) time.Time {
	// Round takes off the monotonic clock, which these times are not told by.
	if now := time.Now().Round(0); now.After(last) {
		return now
	}
	return last.Add(1)
}

func (c *contents) put(id string, k content) {
	if _, ok := c.known[id]; !ok && len(c.known) >= c.max {
		for victim, k := range c.known {
			delete(c.known, victim)
			if k.changed.After(c.since) {
				c.since = k.changed
			}
			c.since = after(c.since)
			break
		}
	}
	c.known[id] = k
}
