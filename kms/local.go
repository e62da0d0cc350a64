package kms

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
)

// local is the KMS of a key in a file: for trying out, and for machines whose key file is
// delivered by other means (a systemd credential, a secret of an orchestrator).
type local struct {
	key []byte
	id  string // tells which key it is, and nothing of it
}

func checkLocal(t *target) error {
	if t.Key == "" && t.Material == "" {
		return errors.New("key is missing: the path of a file that `connfs keygen` made")
	}
	return errors.Join(t.only("Key", "Material")...)
}

func openLocal(_ context.Context, t *target) (Client, error) {
	material := []byte(t.Material)
	if len(material) == 0 {
		var err error
		if material, err = ReadLocalKey(t.Key); err != nil {
			return nil, err
		}
	}
	defer clear(material)
	key, err := parseLocalKey(material)
	if err != nil {
		return nil, err
	}
	return &local{key: key, id: localKeyID(key)}, nil
}

// localKeyID is how sealed forms name a local key: eight bytes of a hash, in hex.
func localKeyID(key []byte) string {
	h := sha256.New()
	h.Write([]byte("connfs local key\n"))
	h.Write(key)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Encrypt implements Client.
func (l *local) Encrypt(_ context.Context, plaintext []byte, bound Context) (Extra, error) {
	sealed, err := seal(l.key, plaintext, l.aad(bound))
	if err != nil {
		return nil, failed("the random numbers of the system fail")
	}
	return Extra{extraKey: l.id, extraCiphertext: base64.StdEncoding.EncodeToString(sealed)}, nil
}

// Decrypt implements Client.
func (l *local) Decrypt(_ context.Context, extra Extra, bound Context) ([]byte, error) {
	key, ciphertext, err := extra.parts()
	if err != nil {
		return nil, err
	}
	if key != l.id {
		return nil, rejected("it was sealed with the local key "+printable(key)+", and this one is "+l.id, "find the key file of that time")
	}
	plaintext, ok := open(l.key, ciphertext, l.aad(bound))
	if !ok {
		return nil, rejected("the ciphertext does not open", hintMoved)
	}
	return plaintext, nil
}

// aad binds a ciphertext to the name of its key besides.
func (l *local) aad(bound Context) []byte {
	all := maps.Clone(bound)
	all[extraKey] = l.id
	return canonical(all)
}

// Close wipes the key.
func (l *local) Close() error {
	clear(l.key)
	return nil
}
