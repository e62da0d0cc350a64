package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// local is the KMS whose key is in a file: to try things out, and for machines that get the
// file from elsewhere (a systemd credential, a secret of an orchestrator).
type local struct {
	key []byte
	id  string // says which key it is, and tells nothing about its bytes
}

var localKind = &Kind{
	Type: "local",
	Keys: []Key{{
		Name: "key", Form: SecretFile, Required: true, Read: ReadLocalKey,
		Sample: "kek", Help: "a key file: `connfs keygen` makes one",
	}},
	open: openLocal,
}

func openLocal(_ context.Context, s Settings) (Client, error) {
	material, err := s.content("key", ReadLocalKey)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	key, err := parseLocalKey(material)
	if err != nil {
		return nil, err
	}
	return &local{key: key, id: localKeyID(key)}, nil
}

// localKeyID returns the name of a local key in sealed forms: eight bytes of a hash, in hex.
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
		return nil, rejected(
			"it was sealed with the local key "+printable(key)+", and this one is "+l.id,
			"find the key file of that time",
		)
	}
	plaintext, ok := open(l.key, ciphertext, l.aad(bound))
	if !ok {
		return nil, rejected("the ciphertext does not open", hintMoved)
	}
	return plaintext, nil
}

// aad returns the additional authenticated data: the context and the name of the key.
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

// GenerateLocalKey returns the content of a new key file for a KMS of type local: 32
// random bytes in base64url, and a line break. id is the name of the key in sealed forms.
func GenerateLocalKey() (content []byte, id string, err error) {
	key := make([]byte, keySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return nil, "", failed("the random numbers of the system fail")
	}
	return append(base64.URLEncoding.AppendEncode(nil, key), '\n'), localKeyID(key), nil
}

// ReadLocalKey returns the content of a key file. It must be a regular file that holds a key,
// that only its owner can write, and that nobody but its owner and group can read. The caller
// wipes the content. The error is a *conn.Error.
func ReadLocalKey(path string) ([]byte, error) {
	file, info, err := regularfile.Open(path, 0, trust.Own())
	if err != nil {
		e := failed("the key file %s cannot be opened", path)
		var untrusted *trust.Error
		switch {
		case errors.As(err, &untrusted):
			e.Kind, e.Hint = conn.Denied, untrusted.Hint
			e.Reason = "the key file " + untrusted.Error()
		case errors.Is(err, regularfile.ErrNotRegular):
			e.Reason = "the key file " + path + " is not a regular file"
		case errors.Is(err, fs.ErrNotExist):
			e.Reason = "the key file " + path + " is not there"
			e.Hint = "put back the copy that you kept, since what it sealed opens with no other " +
				"key; `connfs keygen` makes a first one"
		case errors.Is(err, fs.ErrPermission):
			e.Kind = conn.Denied
			e.Hint = "the user that connfs runs its resolver as must be able to read it"
		}
		e.Err = err
		return nil, e
	}
	defer file.Close()
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		e := failed(
			"the key file %s has the mode %04o, with which others can read or write it", path, mode,
		)
		e.Hint = "chmod 0400; 0440 if its group is connfs's own"
		return nil, e
	}
	noKey := failed("the key file %s does not hold a key: 32 bytes in base64url, on one line", path)
	material, err := regularfile.ReadAll(file, 4*keySize) // a key file is 45 bytes long
	var large *regularfile.TooLargeError
	switch {
	case errors.As(err, &large):
		return nil, noKey
	case err != nil:
		return nil, failed("the key file %s cannot be read", path)
	}
	key, err := parseLocalKey(material)
	if err != nil {
		clear(material)
		return nil, noKey
	}
	clear(key)
	return material, nil
}

// parseLocalKey returns the key in the content of a key file.
func parseLocalKey(material []byte) ([]byte, error) {
	line := bytes.TrimSuffix(bytes.TrimSuffix(material, []byte("\n")), []byte("\r"))
	key := make([]byte, base64.URLEncoding.DecodedLen(len(line)))
	n, err := base64.URLEncoding.Strict().Decode(key, line)
	if err != nil || n != keySize || len(line) != base64.URLEncoding.EncodedLen(keySize) {
		clear(key)
		return nil, failed("the key file does not hold a key: 32 bytes in base64url, on one line")
	}
	return key[:keySize:keySize], nil
}
