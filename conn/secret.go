package conn

import (
	"fmt"
	"log/slog"
)

// redacted is what a [Secret] prints as.
const redacted = "[redacted]"

// Secret is text that no formatting verb, log handler or encoder prints. The
// zero Secret is null: no text at all, which to Airflow differs from the empty text.
//
// It guards against accidents, not against memory scans: the text is in
// ordinary memory, which is why only the short-lived resolver child holds secrets.
type Secret struct {
	text  string
	valid bool
}

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret { return Secret{text: text, valid: true} }

// Reveal returns the text, and false if the Secret is null.
func (s Secret) Reveal() (string, bool) { return s.text, s.valid }

// Format implements fmt.Formatter for every verb, so that not even %#v or %x
// of a struct that holds a Secret prints it.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
