package conn

import (
	"errors"
	"fmt"
)

// Kind classifies a failure. Every layer passes kinds on unchanged; package fs
// alone turns them into error numbers.
type Kind uint8

// The kinds. Absent is the only one that lets the search go on to the next
// backend.
const (
	// Failed: a failure of no other kind. The reader sees EIO.
	Failed Kind = iota
	// Absent: the backend works and has no such connection.
	Absent
	// Denied: the backend or KMS refused connfs itself.
	Denied
	// Unreachable: the backend or KMS could not be reached, or broke off.
	Unreachable
	// Timeout: the backend or KMS did not answer within the deadline.
	Timeout
	// KeyRejected: the ciphertext does not open with the keys at hand.
	KeyRejected
	// Invalid: what is stored is not a connection.
	Invalid

	// NotGranted: the policy does not let this caller read this id.
	NotGranted
	// Interrupted: the kernel says that the reader gave up waiting.
	Interrupted
	// PageRead: a READ that would leave plaintext in the page cache.
	PageRead
	// Changed: the content is no longer the one that was opened.
	Changed
	// TooLarge: the rendered connection is over 1 MiB.
	TooLarge
	// NoSlot: every locked slot is in use by a reply under way.
	NoSlot
	// NameTooLong: a file name over 1,024 bytes.
	NameTooLong
	// NoSuchName: a file name that belongs to no id.
	NoSuchName
)

var kindNames = [...]string{
	Failed:      "failed",
	Absent:      "absent",
	Denied:      "denied",
	Unreachable: "unreachable",
	Timeout:     "timeout",
	KeyRejected: "key rejected",
	Invalid:     "invalid",
	NotGranted:  "not granted",
	Interrupted: "interrupted",
	PageRead:    "page-cache read",
	Changed:     "changed",
	TooLarge:    "too large",
	NoSlot:      "no free slot",
	NameTooLong: "name too long",
	NoSuchName:  "no such name",
}

// String returns the kind in words, as logs and `connfs explain` show it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error is a classified failure. Its text is for people, is one line, and never
// holds a secret. Code that makes one from a driver's or SDK's error uses
// only what cannot contain a value, a password or a URL.
type Error struct {
	Kind   Kind
	Source string // who failed: "metastore", "environment", a KMS's name; may be empty
	Reason string // what happened
	Hint   string // what to do about it; may be empty
	Err    error  // the cause, for errors.Is and errors.As; never printed
	// Charged says that nobody was asked, because too much failed for this caller: another
	// caller may well get an answer.
	Charged bool
}

// Errorf returns an Error of this kind and source with a formatted reason.
func Errorf(kind Kind, source, format string, args ...any) *Error {
	return &Error{Kind: kind, Source: source, Reason: fmt.Sprintf(format, args...)}
}

// Error implements error: "source: kind: reason (hint)".
func (e *Error) Error() string {
	s := e.Kind.String()
	if e.Source != "" {
		s = e.Source + ": " + s
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [Error] in err's chain, and Failed if the chain
// holds no Error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Failed
}
