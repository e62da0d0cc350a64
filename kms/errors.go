package kms

import (
	"context"
	"errors"

	"github.com/connfs/connfs/conn"
)

// What may have happened to a ciphertext that a KMS works on and does not open.
const (
	hintMoved = "it was sealed for another conn_id, tenant or kms_conn_id, or what encrypts " +
		"its key was changed afterwards"
	hintChanged = "a part of the sealed form was changed afterwards, or comes from another one"
)

// hintEnvelope is what helps where the fields are too long for direct mode.
const hintEnvelope = "use mode = \"envelope\""

// failed returns an error of a cause that has no kind of its own.
func failed(format string, args ...any) *conn.Error {
	return conn.Errorf(conn.Failed, "", format, args...)
}

// rejected returns the error for what does not open.
func rejected(reason, hint string) *conn.Error {
	return &conn.Error{Kind: conn.KeyRejected, Reason: reason, Hint: hint}
}

// interrupted returns the error of a call that ctx ended, and nil if ctx goes on.
func interrupted(ctx context.Context) *conn.Error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return &conn.Error{
			Kind: conn.Timeout, Reason: "the call was given up before an answer came", Err: err,
		}
	default:
		return &conn.Error{Kind: conn.Timeout, Reason: "no answer within the deadline", Err: err}
	}
}

// named returns err with the KMS as its source, where it says no other.
func named(name string, err error) error {
	var e *conn.Error
	if !errors.As(err, &e) {
		return &conn.Error{
			Kind: conn.Failed, Source: name, Reason: "an unexpected failure", Err: err,
		}
	}
	if e.Source != "" {
		return err
	}
	with := *e
	with.Source = name
	return &with
}

// parts returns what Decrypt needs. Whatever else an extra holds, nothing would answer
// for, so it is refused.
func (e Extra) parts() (key string, ciphertext []byte, err error) {
	key = e[extraKey]
	ciphertext, ok := decodeBase64Strict(e[extraCiphertext])
	if len(e) != 2 || key == "" || !ok || len(ciphertext) == 0 {
		return "", nil, rejected("kms_extra is not what a KMS of this type makes", hintChanged)
	}
	return key, ciphertext, nil
}
