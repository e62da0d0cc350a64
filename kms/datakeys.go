package kms

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"time"
)

// dataKeys are unwrapped data keys that are used again, where the settings of their KMS
// allow it. A key is found only by all that its payload is bound to.
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

// put keeps a copy of key for that time and so many uses.
func (d *dataKeys) put(aad, key []byte, ttl time.Duration, uses int) {
	if ttl <= 0 || uses <= 0 {
		return
	}
	name := sha256.Sum256(aad)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys[name] != nil {
		return // a concurrent read was first; its time counts
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
