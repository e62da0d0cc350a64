package kms

// CachedKeys is how many data keys the keyring keeps.
func CachedKeys(k *Keyring) int {
	k.keys.mu.Lock()
	defer k.keys.mu.Unlock()
	return len(k.keys.keys)
}
