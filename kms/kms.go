package kms

import (
	"context"
	"encoding/json"
	"time"
)

// Client is one KMS, with the two verbs of AIRFLOW-2062.
type Client interface {
	// Encrypt has the KMS encrypt plaintext: a data key, or in direct mode the
	// secret fields themselves. It returns one JSON object of the client's own
	// making, the kms_extra of a sealed form, with all that Decrypt needs.
	//
	// The errors of both are *conn.Error of kind Denied, Unreachable, Timeout,
	// KeyRejected or Failed. They return soon after ctx ends.
	Encrypt(ctx context.Context, plaintext []byte, bound Context) (extra json.RawMessage, err error)
	// Decrypt returns the plaintext, if extra was made by Encrypt with an equal
	// Context. The caller wipes the plaintext.
	Decrypt(ctx context.Context, extra json.RawMessage, bound Context) (plaintext []byte, err error)
}

// Context is what a ciphertext is bound to: it opens only under an equal Context.
// AWS calls it EncryptionContext, Google Cloud AdditionalAuthenticatedData.
type Context map[string]string

// Settings describe one KMS: a [kms.NAME] of the configuration. What is empty the
// provider's own chain of defaults decides.
type Settings struct {
	Type string // "aws", "gcp" or "local"
	// Key is what encrypts: for aws an id, ARN or alias; for gcp the resource name
	// of a key or of a version of it; for local the path of a key file.
	Key  string
	Mode string // "envelope" (the default) or "direct"

	Region               string // aws
	Profile              string // aws
	RoleARN              string // aws: the role to assume
	ExternalID           string // aws: of that role
	WebIdentityTokenFile string // aws: to assume the role with
	CredentialsFile      string // aws: a shared credentials file; gcp: a JSON key file
	Endpoint             string // aws: a URL; gcp: host:port

	// CacheTTL and CacheUses bound how long, and how often, an unwrapped data key is
	// used again. A zero of either, the default, keeps none.
	CacheTTL  time.Duration
	CacheUses int
}
