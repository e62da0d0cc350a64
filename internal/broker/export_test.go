package broker

// MaxUIDFailures is how many lines a second the failures of one user may make.
const MaxUIDFailures = maxUIDFailures

// Idle reports whether no fetch is under way.
func (b *Broker) Idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.quotas {
		if q.inFlight > 0 {
			return false
		}
	}
	return true
}
