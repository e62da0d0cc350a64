package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
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
