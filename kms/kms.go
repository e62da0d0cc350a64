package kms

import "context"

// Client is one KMS, with the two verbs of AIRFLOW-2062.
//
// The errors of both are *conn.Error of kind Denied, Unreachable, Timeout, KeyRejected
// or Failed, without a source, which the [Keyring] adds. They return soon after ctx ends.
type Client interface {
	// Encrypt has the KMS encrypt plaintext: a data key, or in direct mode the
	// secret fields themselves. It returns all that Decrypt needs.
	Encrypt(ctx context.Context, plaintext []byte, bound Context) (Extra, error)
	// Decrypt returns the plaintext, if extra was made by Encrypt with an equal
	// Context. The caller wipes the plaintext.
	Decrypt(ctx context.Context, extra Extra, bound Context) (plaintext []byte, err error)
}

// dataKeyer is a Client whose KMS makes data keys itself. Its random numbers may be better
// than those of this machine.
type dataKeyer interface {
	// GenerateDataKey returns a new key of 256 bits and the same key encrypted.
	GenerateDataKey(ctx context.Context, bound Context) (key []byte, extra Extra, err error)
}

// Context is what a ciphertext is bound to: it opens only under an equal Context.
// AWS calls it EncryptionContext, Google Cloud AdditionalAuthenticatedData.
type Context map[string]string

// Extra is the kms_extra of a sealed form: a JSON object that a client made. All its values are
// text, which stays the same when somebody writes the JSON again.
type Extra map[string]string

// The keys of an [Extra]. Every client has these two and no others.
const (
	extraKey        = "key"        // which key encrypted, as the KMS names it
	extraCiphertext = "ciphertext" // base64
)
