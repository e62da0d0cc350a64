package kms

import (
	"context"
	"errors"

	"github.com/connfs/connfs/conn"
)

// Hints: why a KMS may not open a ciphertext.
const (
	hintMoved = "it was sealed for another conn_id, tenant or kms_conn_id, or what encrypts " +
		"its key was changed afterwards"
	hintChanged = "a part of the sealed form was changed afterwards, or comes from another one"
)

// Why a KMS that a sealed form or a command names is not used.
const (
	reasonUnlisted = "it is neither a [kms.NAME] nor one of kms_connections"
	hintUnlisted   = "add a [kms.NAME]; or, if everybody who can write the connection of that " +
		"id is trusted to seal, add the id to kms_connections"
)

// hintEnvelope is the hint where the fields are too long for direct mode.
const hintEnvelope = "use mode = \"envelope\""

// failed returns an error of kind Failed.
func failed(format string, args ...any) *conn.Error {
	return conn.Errorf(conn.Failed, "", format, args...)
}

// rejected returns an error of kind KeyRejected: something does not open.
func rejected(reason, hint string) *conn.Error {
	return &conn.Error{Kind: conn.KeyRejected, Reason: reason, Hint: hint}
}

// interrupted returns the error of a call that ended because ctx did; nil: ctx has not ended.
func interrupted(ctx context.Context) *conn.Error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return &conn.Error{
			Kind: conn.Timeout, Reason: "the caller gave up before an answer came", Err: err,
		}
	default:
		return &conn.Error{Kind: conn.Timeout, Reason: "no answer within the deadline", Err: err}
	}
}

// named returns err with the KMS as its source, unless it has a source already.
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

// parts returns what Decrypt needs. An extra that holds anything else is refused, since
// nothing would check it.
func (e Extra) parts() (key string, ciphertext []byte, err error) {
	key = e[extraKey]
	ciphertext, ok := decodeBase64Strict(e[extraCiphertext])
	if len(e) != 2 || key == "" || !ok || len(ciphertext) == 0 {
		return "", nil, rejected("kms_extra is not what a KMS of this type makes", hintChanged)
	}
	return key, ciphertext, nil
}
