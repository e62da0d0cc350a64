// Package backend says what a secrets backend must do, and holds what backends may use:
// the typed arguments of backend_kwargs, the rules for ids, files that are watched, and
// the errors that all of them answer with. It knows no backend, and links no SDK and no
// driver.
package backend

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

// Local is a Backend that is in reach or not there at all: waiting does not help it, and
// no breaker guards it.
type Local interface {
	Local() bool
}

// Warmer is a Backend that can connect and log in ahead of the first look-up,
// without touching any connection.
type Warmer interface {
	Warm(ctx context.Context) error
}

// Checker is a Backend that can try its credentials and permissions.
type Checker interface {
	// Check makes a harmless call of each kind that the backend needs, without
	// reading any connection, and returns one result a call, without the Name.
	Check(ctx context.Context) []conn.Check
}

// Successor is a Backend whose login outlives the process: the resolver child that
// replaces this one goes on with it instead of logging in again.
type Successor interface {
	// Identity returns what the next child needs: connfs's own credentials and
	// their lease, a count of failures; never anything of a connection. Nil: nothing
	// that is worth handing over. It may be called at any time.
	Identity() []byte
	// Adopt takes a predecessor's identity. It comes before the first look-up, or
	// later, and counts only where it is newer than what the backend has. What it
	// cannot read it ignores.
	Adopt(identity []byte)
}
