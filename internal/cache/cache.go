// Package cache holds plaintext. It is the only place in the front process that does. A
// value lies in locked pages from the moment it is read from the resolver's pipe until its
// time is up, and is wiped then. Only a reply under way keeps it longer: it pins the value
// while the kernel copies it.
//
// The life of a value: Reserve gives a slot, which package resolver fills from the pipe by
// read(2); Commit makes it the value of an id for its time; Get pins it for each reader;
// Slices gives the bytes of a reply, which package fs writes to the kernel by write(2); the
// last Release after its time wipes it.
package cache

import (
	"errors"
	"sync"
	"time"

	"github.com/connfs/connfs/internal/boottime"
)

// PageSize is the unit in which values are stored, in bytes.
const PageSize = 4096

// MaxValue is the largest value that can be stored, in bytes.
const MaxValue = 1 << 20

// ErrFull is returned by Reserve when every page is pinned by a reply under way.
var ErrFull = errors.New("no free slot")

// Cache is a bounded set of values in one locked [Region]. All methods may be
// called concurrently.
type Cache struct {
	region *Region

	mu      sync.Mutex
	free    []int // page numbers
	values  map[string]*Value
	owners  map[uint32]*owner // of committed values
	commits uint64            // so far

	drain sync.Mutex // guards the last page, into which Discard reads unwanted bytes
}

// New returns a cache of size bytes, of which one page is kept for [Cache.Discard].
func New(size int) (*Cache, error) {
	region, err := NewRegion(max(size, 2*PageSize))
	if err != nil {
		return nil, err
	}
	c := &Cache{region: region, values: make(map[string]*Value), owners: make(map[uint32]*owner)}
	for p := len(region.Bytes())/PageSize - 2; p >= 0; p-- {
		c.free = append(c.free, p)
	}
	return c, nil
}

// owner holds the values that were fetched for one uid.
type owner struct {
	pages          int
	oldest, newest *Value // ends of a list, in the order of their commits
}

// victim returns the owner's oldest value that no reply pins.
func (o *owner) victim() *Value {
	v := o.oldest
	for v != nil && v.pins > 0 {
		v = v.newer
	}
	return v
}

// LockError says why the values are not locked in memory; nil if they are.
func (c *Cache) LockError() error { return c.region.LockError() }

// Value is one plaintext, in a slot of locked pages. Each call of Reserve, Get or Pin gives
// pins to the caller, who gives each back with Release. The bytes may be used until then.
type Value struct {
	cache   *Cache
	pages   []int
	size    int
	version uint64
	origin  Origin
	owner   uint32
	fetched time.Time // by boottime.Now

	// Guarded by cache.mu.
	pins         int
	key          string
	committed    bool
	timer        *time.Timer
	until        time.Duration // when its time is up, by boottime.Elapsed
	number       uint64        // of its commit
	older, newer *Value        // of the same owner
}

// Size returns the length of the plaintext in bytes.
func (v *Value) Size() int { return v.size }

// Version is the keyed digest of the content, which the resolver computed. It is equal for
// equal content, and tells nothing about the content without the key.
func (v *Value) Version() uint64 { return v.version }

// SetVersion is called once, before Commit.
func (v *Value) SetVersion(version uint64) { v.version = version }

// Origin says where a value comes from. The JSON is that of the resolver's protocol.
type Origin struct {
	Backend string `json:"backend"` // the name of the one that had it
	// KMS is the kms_conn_id by which it was sealed there, and Key which key of that KMS did,
	// as the KMS names it. Both are empty where it was not sealed.
	KMS string `json:"kms,omitempty"`
	Key string `json:"key,omitempty"`
}

// Sealed reports whether the value was sealed where it came from.
func (o Origin) Sealed() bool { return o.KMS != "" }

// Origin returns where the value came from, which Commit or SetOrigin has set.
func (v *Value) Origin() Origin { return v.origin }

// SetOrigin sets the origin of a value that is never committed.
func (v *Value) SetOrigin(o Origin) { v.origin = o }

// SetOwner says for which uid the value was fetched. The cache makes room at the expense of
// the owner with the most pages. It is called once, before Commit.
func (v *Value) SetOwner(uid uint32) { v.owner = uid }

// SetAge says how long ago the value was fetched: it may have waited in a pipe. Without it, that
// was when it was reserved. It is called once, before Commit.
func (v *Value) SetAge(age time.Duration) { v.fetched = boottime.Now().Add(-max(0, age)) }

// Age returns how long ago the value was fetched.
func (v *Value) Age() time.Duration { return boottime.Since(v.fetched) }

// Slices returns the n bytes from offset off, or fewer at the end, as they lie in
// the locked pages.
func (v *Value) Slices(off, n int) [][]byte {
	if off < 0 || off >= v.size || n <= 0 {
		return nil
	}
	end := min(v.size, off+n)
	var out [][]byte
	for off < end {
		page, at := v.cache.page(v.pages[off/PageSize]), off%PageSize
		stop := min(PageSize, at+end-off)
		out = append(out, page[at:stop])
		off += stop - at
	}
	return out
}

func (c *Cache) page(p int) []byte { return c.region.Bytes()[p*PageSize : (p+1)*PageSize] }

// Reserve returns a value of n bytes to be filled through Slices, with one pin.
// To make room it drops values that no reply pins, always the oldest of the owner
// that fills the most pages, so that nobody can push out those who keep less than
// their share; ErrFull means that there were not enough.
func (c *Cache) Reserve(n int) (*Value, error) {
	need := max(1, (n+PageSize-1)/PageSize)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.free) < need {
		v := c.victim()
		if v == nil {
			return nil, ErrFull
		}
		c.forget(v)
	}
	at := len(c.free) - need
	v := &Value{
		cache: c, pages: append([]int(nil), c.free[at:]...), size: n, pins: 1,
		fetched: boottime.Now(),
	}
	c.free = c.free[:at]
	return v, nil
}

// victim returns the value that makes room, nil if every one is pinned. c.mu is held.
func (c *Cache) victim() *Value {
	var victim *Value
	most := 0
	for _, o := range c.owners {
		if o.pages < most {
			continue
		}
		if v := o.victim(); v != nil && (o.pages > most || v.number < victim.number) {
			victim, most = v, o.pages
		}
	}
	return victim
}

// Commit makes v the value of key for ttl since it was fetched, in place of an earlier one.
// Reads do not prolong it. The caller keeps its pin.
func (c *Cache) Commit(key string, v *Value, origin Origin, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v.origin = origin
	if old := c.values[key]; old != nil {
		c.forget(old)
	}
	left := ttl - v.Age()
	if left <= 0 {
		return // the last Release frees it
	}
	c.commits++
	v.key, v.committed, v.number = key, true, c.commits
	c.values[key] = v
	c.link(v)
	v.until = boottime.Elapsed() + left
	v.timer = time.AfterFunc(left, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if v.committed {
			c.forget(v)
		}
	})
}

// Get returns the value of key with a pin of the caller's, or nil. The timer that drops a value
// can be late: it does not run while the process is stopped or the machine suspended.
func (c *Cache) Get(key string) *Value {
	now := boottime.Elapsed()
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.values[key]
	if v == nil {
		return nil
	}
	if now >= v.until {
		c.forget(v)
		return nil
	}
	v.pins++
	return v
}

// Expire drops every value whose time is up, after the machine was suspended.
func (c *Cache) Expire() {
	now := boottime.Elapsed()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.values {
		if now >= v.until {
			c.forget(v)
		}
	}
}

// Pin adds n pins to a value that the caller has pinned.
func (v *Value) Pin(n int) {
	v.cache.mu.Lock()
	v.pins += n
	v.cache.mu.Unlock()
}

// Release gives one pin back. The last one of a value whose time is up wipes it.
func (v *Value) Release() {
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	v.pins--
	if v.pins == 0 && !v.committed {
		v.cache.wipe(v)
	}
}

// Clear drops every value; those that are pinned go with their last pin.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.owners {
		for o.oldest != nil {
			c.forget(o.oldest)
		}
	}
}

// Discard has fill read n bytes that nobody wants into locked memory, piece by piece, and
// wipes it. fill returns how many bytes it has read.
func (c *Cache) Discard(n int, fill func([]byte) (int, error)) error {
	c.drain.Lock()
	defer c.drain.Unlock()
	page := c.page(len(c.region.Bytes())/PageSize - 1)
	defer clear(page)
	for n > 0 {
		took, err := fill(page[:min(n, PageSize)])
		if err != nil {
			return err
		}
		n -= took
	}
	return nil
}

// Close wipes everything. No value may be in use.
func (c *Cache) Close() error {
	c.Clear()
	return c.region.Close()
}

// forget takes a committed value out of the index. c.mu is held.
func (c *Cache) forget(v *Value) {
	v.timer.Stop()
	v.committed = false
	if c.values[v.key] == v {
		delete(c.values, v.key)
	}
	c.unlink(v)
	if v.pins == 0 {
		c.wipe(v)
	}
}

// link adds a value at the end of its owner's list. c.mu is held.
func (c *Cache) link(v *Value) {
	o := c.owners[v.owner]
	if o == nil {
		o = new(owner)
		c.owners[v.owner] = o
	}
	o.pages += len(v.pages)
	if v.older = o.newest; v.older != nil {
		v.older.newer = v
	} else {
		o.oldest = v
	}
	o.newest = v
}

// unlink takes a value out of its owner's list. c.mu is held.
func (c *Cache) unlink(v *Value) {
	o := c.owners[v.owner]
	if o.pages -= len(v.pages); o.pages == 0 {
		delete(c.owners, v.owner)
	}
	if v.older != nil {
		v.older.newer = v.newer
	} else {
		o.oldest = v.newer
	}
	if v.newer != nil {
		v.newer.older = v.older
	} else {
		o.newest = v.older
	}
	v.older, v.newer = nil, nil
}

// wipe clears a value's pages and frees them. c.mu is held.
func (c *Cache) wipe(v *Value) {
	for _, p := range v.pages {
		clear(c.page(p))
	}
	c.free = append(c.free, v.pages...)
	v.pages, v.size = nil, 0
}
