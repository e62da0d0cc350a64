package kms

// successor is a Client whose login outlives the process; see resolve.Successor.
type successor interface {
	Identity() []byte
	Adopt([]byte)
}

// Identities returns what the next resolver child needs to go on with the logins of this
// one, by the NAME of the KMS: credentials of roles. It is connfs's own, and never
// anything of a connection.
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
