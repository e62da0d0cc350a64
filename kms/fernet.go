// Package kms opens and writes what is encrypted: the Fernet tokens in which Airflow keeps
// the password and extra of a metastore row, and sealed connections, each of which has a data
// key of its own that only a KMS can unwrap. docs/sealed.md specifies the sealed form.
//
// A sealed form opens only under the conn_id for which it was made, and with the KMS that it
// names. Somebody who can write where it is kept cannot read it, and cannot move or change it
// unnoticed. It does not protect from somebody who may use the KMS key, and it does not
// protect the columns that stay in clear.
//
// Each kind of KMS is one file (aws.go, gcp.go, local.go) and one line in kinds.go;
// docs/adding-a-kms.md shows how to add one.
//
// Keys and payloads are wiped after use as far as this package can. The libraries that it uses
// keep copies, which is why only short-lived processes use it.
package kms

import (
	"crypto/aes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/fernet/fernet-go"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/python"
)

// Source is the name under which this package's errors say who rejected a token.
const Source = "fernet"

// A token is version, time, IV, ciphertext of whole blocks, and MAC.
const (
	tokenHead     = 1 + 8 + aes.BlockSize
	tokenOverhead = tokenHead + sha256.Size
)

// Fernet opens tokens with the keys of Airflow's [core] fernet_key.
type Fernet struct {
	keys   []*fernet.Key
	reject *conn.Error // set: no token can be opened, and why
}

// NewFernet reads key as Airflow reads [core] fernet_key: keys separated by
// commas, nothing trimmed, each one 32 bytes in the base64 that Python accepts. A
// blank element makes the whole key unusable. An empty key is not an error: none is
// configured, and what is flagged as encrypted cannot be read.
//
// The Fernet can be used even where there is an error: it rejects every token with that
// reason. An unusable key must not keep unencrypted connections from being served. The error
// is a *conn.Error of kind KeyRejected.
func NewFernet(key string) (*Fernet, error) {
	if key == "" {
		reject := conn.Errorf(
			conn.KeyRejected, Source, "the field is encrypted, and no key is configured",
		)
		reject.Hint = "set [core] fernet_key"
		return &Fernet{reject: reject}, nil
	}
	parts := strings.Split(key, ",")
	f := &Fernet{keys: make([]*fernet.Key, len(parts))}
	for i, part := range parts {
		k, err := decodeKey(part)
		if err != nil {
			reject := conn.Errorf(conn.KeyRejected, Source,
				"key %d of %d in fernet_key is unusable: %v", i+1, len(parts), err)
			reject.Hint = "each one is 32 bytes in base64, separated by a comma and nothing else"
			if strings.Contains(part, "$") {
				reject.Hint = "it looks like a variable that nothing expanded"
			}
			return &Fernet{reject: reject}, reject
		}
		f.keys[i] = k
	}
	return f, nil
}

// Decrypt returns the plaintext of a token that one of the keys signed. Its age does
// not matter, as in Airflow. Its error is a *conn.Error of
// kind KeyRejected.
func (f *Fernet) Decrypt(token string) ([]byte, error) {
	if f.reject != nil {
		return nil, f.reject
	}
	raw, err := python.DecodeBase64(token)
	if err != nil {
		return nil, conn.Errorf(conn.KeyRejected, Source, "the token is %v", err)
	}
	// The library does not check the length of a token that a key signed, and panics. It
	// also takes padding of 0 bytes or of more than a block, which Airflow refuses.
	size := len(raw) - tokenOverhead
	if size < aes.BlockSize || size%aes.BlockSize != 0 {
		return nil, conn.Errorf(
			conn.KeyRejected, Source, "the token is cut short or no token at all",
		)
	}
	canonical := base64.URLEncoding.AppendEncode(nil, raw)
	for _, k := range f.keys {
		plain := fernet.VerifyAndDecrypt(canonical, 0, []*fernet.Key{k})
		if pad := size - len(plain); plain != nil && 1 <= pad && pad <= aes.BlockSize {
			return plain, nil
		}
	}
	keys := "the key"
	if len(f.keys) > 1 {
		keys = fmt.Sprintf("any of the %d keys", len(f.keys))
	}
	return nil, conn.Errorf(conn.KeyRejected, Source, "the token does not open with %s", keys)
}

// Encrypt returns a token of plaintext with the time of now and the first of the keys, as
// Airflow writes it. Its error is a *conn.Error of kind KeyRejected, where no key is
// configured or it is unusable, or Failed.
func (f *Fernet) Encrypt(plaintext []byte) (string, error) {
	if f.reject != nil {
		return "", f.reject
	}
	token, err := fernet.EncryptAndSign(plaintext, f.keys[0])
	if err != nil {
		return "", &conn.Error{
			Kind: conn.Failed, Source: Source, Reason: "the field cannot be encrypted", Err: err,
		}
	}
	return string(token), nil
}

func decodeKey(text string) (*fernet.Key, error) {
	if text == "" {
		return nil, fmt.Errorf("it is blank")
	}
	raw, err := python.DecodeBase64(text)
	if err != nil {
		return nil, err
	}
	var k fernet.Key
	if len(raw) != len(k) {
		return nil, fmt.Errorf("it decodes to %d bytes, not %d", len(raw), len(k))
	}
	copy(k[:], raw)
	return &k, nil
}
