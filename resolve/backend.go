// Package resolve finds a connection: it asks the secrets backends of the search
// path in order, with the rules of AIP-33, and tells absent from denied,
// unreachable and invalid. It runs in the resolver child only.
package resolve

import (
	"context"

	"github.com/connfs/connfs/conn"
)

// Backend is one place where Airflow keeps connections.
type Backend interface {
	// Connection returns the connection whose id is id, byte for byte. Its
	// error is a *conn.Error of kind Absent, Denied, Unreachable, Timeout,
	// KeyRejected or Invalid. It returns soon after ctx ends.
	Connection(ctx context.Context, id string) (*conn.Connection, error)
}

// Lister is a Backend that can name the ids it holds.
type Lister interface {
	// List returns every id, without reading or decrypting any value.
	List(ctx context.Context) ([]string, error)
}

// Warmer is a Backend that can connect and log in ahead of the first look-up,
// without touching any connection.
type Warmer interface {
	Warm(ctx context.Context) error
}

// Decrypter opens the encrypted fields of metastore rows.
type Decrypter interface {
	// Decrypt returns the plaintext of a Fernet token. Its error is a
	// *conn.Error of kind KeyRejected.
	Decrypt(token string) ([]byte, error)
}
