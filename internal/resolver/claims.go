package resolver

import (
	"fmt"
	"slices"

	"github.com/connfs/connfs/conn"
)

// MaxValue is the size in bytes of the largest rendering that is served.
const MaxValue = 1 << 20

// Limits of an answer, in bytes.
const (
	maxFailure = 64 << 10 // its meta, where it is a failure
	maxOrigin  = 64 << 10 // its meta, where it is a value
)

// failures are the kinds of what can go wrong in a child. The others are the front's to say.
var failures = []conn.Kind{
	conn.Failed, conn.Absent, conn.Denied, conn.Unreachable, conn.Timeout, conn.KeyRejected,
	conn.Invalid, conn.TooLarge, conn.Interrupted,
}

// secretOps are the operations whose answers can be secret.
var secretOps = []Op{OpGet, OpIdentity, OpSeal}

// check fails if an answer to a request claims what no answer to it can. A child that answers so is
// not to be trusted with another question. The body has not been read yet.
func (h Header) check(op Op) error {
	switch {
	case !h.OK && (h.Body > 0 || h.Digest != 0):
		return fmt.Errorf("a failure has a body of %d bytes", h.Body)
	case !h.OK && h.Meta > maxFailure:
		return fmt.Errorf("the reason of a failure has %d bytes", h.Meta)
	case !h.OK && !slices.Contains(failures, h.Kind):
		return fmt.Errorf("a failure is of the kind %q", h.Kind)
	case h.Digest != 0 && !slices.Contains(secretOps, op):
		return fmt.Errorf("the answer to operation %d says that it is secret", op)
	case op == OpGet && h.OK && h.Meta > maxOrigin:
		return fmt.Errorf("the origin of a value has %d bytes", h.Meta)
	case op == OpGet && h.Body > MaxValue:
		return fmt.Errorf("a value has %d bytes", h.Body)
	case op == OpGet && h.OK && h.Digest == 0 && h.Body > 0:
		return fmt.Errorf("a value has no digest")
	}
	return nil
}
