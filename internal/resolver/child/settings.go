package child

import (
	"bytes"
	"encoding/gob"

	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/all"
)

// Settings are all that a child needs to know. The front keeps them as an opaque blob. Any
// part of them may be secret.
type Settings struct {
	Path all.Settings
	KMS  map[string]kms.Settings // by the NAME of their [kms.NAME]
	// KMSConnections are the ids of the Airflow connections that may be a KMS too.
	KMSConnections []string

	// Owners are the owners whose files the child may open.
	Owners trust.Owners
}

// programs reports whether a child with these settings may have to start a program: a backend, or
// what logs in to a backend or a KMS.
func (s *Settings) programs() bool {
	for _, k := range s.KMS {
		if kind := kms.Lookup(k.Type); kind != nil && kind.Programs {
			return true
		}
	}
	return len(s.KMSConnections) > 0 || s.Path.Programs()
}

// Encode returns the blob. It is not JSON, which cannot hold bytes that are not UTF-8.
func (s *Settings) Encode() ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(s)
	return b.Bytes(), err
}

// decodeSettings is the reverse of Encode.
func decodeSettings(blob []byte) (*Settings, error) {
	s := &Settings{}
	return s, gob.NewDecoder(bytes.NewReader(blob)).Decode(s)
}
