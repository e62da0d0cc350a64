package kms

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// Settings describe one KMS: a [kms.NAME] of the configuration.
type Settings struct {
	Type string // of a [Kind]
	Mode string // "envelope" (the default) or "direct"

	// Values are those of the keys that the kind declares, by name. A file is an absolute
	// path. For what is not there the provider's own chain of defaults decides.
	Values map[string]string
	// Contents are the contents of the files that the keys of the form SecretFile name, by
	// the key's name. Where one is not there, the client reads the file itself.
	Contents map[string]Content

	// CacheTTL and CacheUses bound how long, and how often, an unwrapped data key is
	// used again. Where one of them is 0, the default, none is kept.
	CacheTTL  time.Duration
	CacheUses int
}

// Content is the content of a file with a secret. No formatting verb, log handler or JSON
// encoder shows it; encoding/gob does, by which settings reach the resolver's children.
type Content string

const redacted = "[redacted]"

// Format implements fmt.Formatter for every verb.
func (Content) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue implements slog.LogValuer.
func (Content) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (Content) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// The modes of a sealed form.
const (
	envelope = "envelope" // a data key encrypts the fields, and the KMS that key
	direct   = "direct"   // the KMS encrypts the fields
)

// KeyError is what is wrong with one key of a [kms.NAME]. It shows no value.
type KeyError struct {
	Key     string
	Problem string
	Hint    string // what to do about it; may be empty
}

// Error implements error.
func (e *KeyError) Error() string {
	text := e.Key + ": " + e.Problem
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// CheckSettings returns what is wrong with the settings of one KMS, as far as they
// themselves show it: nothing is opened or asked.
func CheckSettings(s Settings) []*KeyError {
	kind := Lookup(s.Type)
	if kind == nil {
		return []*KeyError{{
			Key: "type", Problem: "there is no such type of KMS",
			Hint: "it may be " + strings.Join(Types(), ", "),
		}}
	}
	var wrong []*KeyError
	if s.Mode != "" && s.Mode != envelope && s.Mode != direct {
		wrong = append(wrong, &KeyError{Key: "mode", Problem: "it may be envelope or direct"})
	}
	if s.CacheTTL < 0 {
		wrong = append(wrong, &KeyError{Key: "cache_ttl", Problem: "it cannot be negative"})
	}
	if s.CacheUses < 0 {
		wrong = append(wrong, &KeyError{Key: "cache_uses", Problem: "it cannot be negative"})
	}
	for _, key := range kind.Keys {
		wrong = append(wrong, key.check(s)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Values)) {
		if _, ok := kind.Key(name); !ok && s.Values[name] != "" {
			wrong = append(wrong, &KeyError{
				Key: name, Problem: fmt.Sprintf("a KMS of type %q has no such key", s.Type),
			})
		}
	}
	return wrong
}

// check returns what is wrong with the key among all settings of its KMS.
func (k Key) check(s Settings) (wrong []*KeyError) {
	add := func(problem, hint string) {
		wrong = append(wrong, &KeyError{Key: k.Name, Problem: problem, Hint: hint})
	}
	value := s.Values[k.Name]
	if value == "" {
		if k.Required && s.Contents[k.Name] == "" {
			add(fmt.Sprintf("a KMS of type %q needs it", s.Type), k.Help)
		}
		return wrong
	}
	if k.Needs != "" && s.Values[k.Needs] == "" {
		add(fmt.Sprintf("it has no effect without %q", k.Needs), "set both, or neither")
	}
	if k.Excludes != "" && s.Values[k.Excludes] != "" {
		add(fmt.Sprintf("it cannot be set together with %q", k.Excludes), "set one of the two")
	}
	if k.Check != nil {
		if err := k.Check(value); err != nil {
			add(err.Error(), "")
		}
	}
	return wrong
}

// content returns the content of the file that a key names: the one that the settings hold,
// or else what read gets from the file now; nil: the key is not set. The caller wipes it. The
// error is a *conn.Error.
func (s Settings) content(name string, read func(path string) ([]byte, error)) ([]byte, error) {
	switch path := s.Values[name]; {
	case s.Contents[name] != "":
		return []byte(s.Contents[name]), nil
	case path != "":
		return read(path)
	}
	return nil, nil
}

// maxFile bounds a file with a secret, in bytes.
const maxFile = 1 << 20

// readFile reads a file with a secret. The error is a *conn.Error.
func readFile(path string) ([]byte, error) {
	content, _, err := regularfile.Read(path, 0, maxFile, trust.Own())
	var untrusted *trust.Error
	switch {
	case errors.As(err, &untrusted):
		return nil, &conn.Error{
			Kind: conn.Denied, Reason: "the file " + untrusted.Error(), Hint: untrusted.Hint,
			Err: err,
		}
	case err != nil:
		return nil, &conn.Error{
			Kind: conn.Denied, Reason: "the file " + path + " cannot be read", Err: err,
			Hint: "the user that connfs runs its resolver as must be able to read it",
		}
	}
	return content, nil
}
