package kms

// successor is a Client whose login outlives the process; see backend.Successor.
type successor interface {
	Identity() []byte
	Adopt([]byte)
}

// Identities returns what the next resolver child needs to go on with the logins of this
// one, by the NAME of the KMS. They are connfs's own. What a KMS that a connection describes
// logs in with is not among them: nothing of a connection outlives a child.
func (k *Keyring) Identities() map[string][]byte {
	all := make(map[string][]byte)
	for name, s := range k.named {
		if b := s.identity(); b != nil {
			all[name] = b
		}
	}
	return all
}

// Adopt gives each KMS of the configuration its predecessor's identity. What it cannot
// read it ignores.
func (k *Keyring) Adopt(all map[string][]byte) {
	for name, identity := range all {
		if s := k.named[name]; s != nil {
			s.adopt(identity)
		}
	}
}

// identity returns the client's identity, or, where there is no client yet, the one that a
// predecessor left.
func (s *source) identity() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		return s.inherited
	}
	if c, ok := s.service.client.(successor); ok {
		return c.Identity()
	}
	return nil
}

// adopt hands an identity to the client, now or as soon as there is one.
func (s *source) adopt(identity []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		s.inherited = identity
	} else if c, ok := s.service.client.(successor); ok {
		c.Adopt(identity)
	}
}
