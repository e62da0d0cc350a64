package resolve

import (
	"cmp"
	"context"
	"errors"
	"syscall"

	"github.com/connfs/connfs/conn"
)

// invalid returns the error for a stored value that is no connection.
func invalid(name string, err error) error {
	var ce *conn.Error
	if errors.As(err, &ce) {
		return &conn.Error{Kind: conn.Invalid, Source: cmp.Or(ce.Source, name), Reason: ce.Reason, Hint: ce.Hint, Err: err}
	}
	return &conn.Error{Kind: conn.Invalid, Source: name, Reason: "what is stored is not a connection", Err: err}
}

// ctxError is the answer of a backend for which there was no time.
func ctxError(name string, cause error) error {
	reason := "no answer within the deadline"
	if errors.Is(cause, context.Canceled) {
		reason = "the search was called off before an answer came"
	}
	return &conn.Error{Kind: conn.Timeout, Source: name, Reason: reason, Err: cause}
}

// fileError says what the system said about a path.
func fileError(kind conn.Kind, source, path string, err error) *conn.Error {
	e := conn.Errorf(kind, source, "%s: %s", path, fileReason(err))
	e.Err = err
	return e
}

// fileReason is the system's own words for a failure, without the path.
func fileReason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "cannot be read"
}
