package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
)

// keySize is the size of data keys and local keys, in bytes: AES-256.
const keySize = 32

// seal encrypts with AES-256-GCM. The result is the nonce (12 random bytes), the ciphertext
// and the tag (16 bytes).
func seal(key, plaintext, aad []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(plaintext)+gcm.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return gcm.Seal(nonce, nonce, plaintext, aad), nil
}

// open decrypts what seal returned. It is false where the key or the aad is another one, or
// where something was changed.
func open(key, sealed, aad []byte) ([]byte, bool) {
	gcm, err := newGCM(key)
	if err != nil || len(sealed) < gcm.NonceSize() {
		return nil, false
	}
	plaintext, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], aad)
	return plaintext, err == nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, aes.KeySizeError(len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// canonical returns a map of texts as bytes, the same bytes for equal maps only: each name,
// in the order of their bytes, and its text, both as netstrings ("4:mode,8:envelope,").
// Ciphertexts are bound to it. JSON would not do: languages write the same object in
// different ways.
func canonical[M ~map[string]string](m M) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = appendNetstring(appendNetstring(b, name), m[name])
	}
	return b
}

func appendNetstring(b []byte, text string) []byte {
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(append(b, ':'), text...)
	return append(b, ',')
}
