package backend

import (
	"cmp"
	"context"
	"errors"
	"syscall"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/trust"
)

// Invalid returns the error for a stored value that is no connection.
func Invalid(name string, err error) error {
	var ce *conn.Error
	if errors.As(err, &ce) {
		return &conn.Error{Kind: conn.Invalid, Source: cmp.Or(ce.Source, name), Reason: ce.Reason,
			Hint: ce.Hint, Err: err}
	}
	return &conn.Error{Kind: conn.Invalid, Source: name,
		Reason: "what is stored is not a connection", Err: err}
}

// ContextError is the answer of a backend for which there was no time.
func ContextError(name string, cause error) error {
	reason := "no answer within the deadline"
	if errors.Is(cause, context.Canceled) {
		reason = "the search was called off before an answer came"
	}
	return &conn.Error{Kind: conn.Timeout, Source: name, Reason: reason, Err: cause}
}

// FileError says what the system said about a path. A file that somebody else could change is
// Denied, whatever the kind.
func FileError(kind conn.Kind, source, path string, err error) *conn.Error {
	e := conn.Errorf(kind, source, "%s: %s", path, FileReason(err))
	e.Err = err
	var untrusted *trust.Error
	if errors.As(err, &untrusted) {
		e.Kind, e.Hint = conn.Denied, untrusted.Hint
	}
	return e
}

// FileReason is the system's own words for a failure, or who could change the file, without the
// path.
func FileReason(err error) string {
	var untrusted *trust.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &untrusted):
		return untrusted.Problem()
	case errors.As(err, &errno):
		return errno.Error()
	}
	return "cannot be read"
}
