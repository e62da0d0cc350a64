package kms

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"time"
)

// dataKeys are the unwrapped data keys that may be used again, as the settings of their KMS
// say. A key is found only by everything that its payload is bound to.
type dataKeys struct {
	mu   sync.Mutex
	keys map[[sha256.Size]byte]*dataKey
}

type dataKey struct {
	key   []byte
	uses  int // left
	timer *time.Timer
}

// take returns a copy of the key for one use. The caller wipes it.
func (d *dataKeys) take(aad []byte) ([]byte, bool) {
	name := sha256.Sum256(aad)
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.keys[name]
	if k == nil {
		return nil, false
	}
	key := bytes.Clone(k.key)
	if k.uses--; k.uses == 0 {
		d.drop(name, k)
	}
	return key, true
}

// put keeps a copy of key for at most that time and that many uses.
func (d *dataKeys) put(aad, key []byte, ttl time.Duration, uses int) {
	if ttl <= 0 || uses <= 0 {
		return
	}
	name := sha256.Sum256(aad)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys[name] != nil {
		return // a concurrent read put it there first, and its limits hold
	}
	if d.keys == nil {
		d.keys = make(map[[sha256.Size]byte]*dataKey)
	}
	k := &dataKey{key: bytes.Clone(key), uses: uses}
	k.timer = time.AfterFunc(ttl, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.keys[name] == k {
			d.drop(name, k)
		}
	})
	d.keys[name] = k
}

// drop wipes a key. The lock is held.
func (d *dataKeys) drop(name [sha256.Size]byte, k *dataKey) {
	k.timer.Stop()
	clear(k.key)
	delete(d.keys, name)
}

func (d *dataKeys) wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, k := range d.keys {
		d.drop(name, k)
	}
}
