package kms

import (
	"context"
	"time"
)

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

// dataKeyer is a Client whose KMS makes data keys, from a better source of chance
// than this machine may have.
type dataKeyer interface {
	// GenerateDataKey returns a new key of 256 bits and the same key encrypted.
	GenerateDataKey(ctx context.Context, bound Context) (key []byte, extra Extra, err error)
}

// Context is what a ciphertext is bound to: it opens only under an equal Context.
// AWS calls it EncryptionContext, Google Cloud AdditionalAuthenticatedData.
type Context map[string]string

// Extra is the kms_extra of a sealed form: a JSON object of a client's own making, whose
// values are all text, so that whoever writes the JSON anew does not change it.
type Extra map[string]string

// The keys of an [Extra]. Every client of today has these two and no others.
const (
	extraKey        = "key"        // which key encrypted, as the KMS names it
	extraCiphertext = "ciphertext" // base64
)

// Settings describe one KMS: a [kms.NAME] of the configuration. What is empty the
// provider's own chain of defaults decides.
type Settings struct {
	Type string // "aws", "gcp" or "local"
	// Key is what encrypts: for aws an id, ARN or alias; for gcp the resource name
	// of a key or of a version of it; for local the path of a key file. Only local needs
	// it to decrypt: sealed forms name their key.
	Key  string
	Mode string // "envelope" (the default) or "direct"

	Region               string // aws
	Profile              string // aws
	RoleARN              string // aws: the role to assume
	ExternalID           string // aws: of that role
	WebIdentityTokenFile string // aws: to assume the role with
	CredentialsFile      string // aws: a shared credentials file; gcp: a JSON key file
	Endpoint             string // aws: a URL; gcp: host:port

	// Material is the content of the file that Key (local) or CredentialsFile (gcp)
	// names, where somebody with the right to read it has done so already. Empty: the
	// client reads the file.
	Material string

	// CacheTTL and CacheUses bound how long, and how often, an unwrapped data key is
	// used again. A zero of either, the default, keeps none.
	CacheTTL  time.Duration
	CacheUses int
}

// The modes of a sealed form.
const (
	envelope = "envelope" // a data key encrypts the fields, and the KMS that key
	direct   = "direct"   // the KMS encrypts the fields
)
