package conn

import (
	"encoding/json"
	"errors"
)

// Check is one call that tries the credentials and permissions of connfs with a backend or
// KMS, and what became of it.
type Check struct {
	Name string // of the backend or KMS
	Call string // as the service's own documentation and policies name it: "ssm:GetParameter"
	Only Only   // what alone needs the call; empty: every read does
	Err  error  // nil, or an *Error that says why the call failed
	Note string // of a call that did not fail: what to think about; may be empty
}

// Only is what a call is for that no read needs.
type Only string

const (
	// OnlyListing is for a call without which connections can be read, and not named.
	OnlyListing Only = "listing"
	// OnlySealing is for a call without which what is sealed already may still open.
	OnlySealing Only = "sealing"
)

// checkForm is a Check as JSON.
type checkForm struct {
	Name    string   `json:"name"`
	Call    string   `json:"call"`
	Only    Only     `json:"only,omitempty"`
	Failure *failure `json:"failure,omitempty"`
	Note    string   `json:"note,omitempty"`
}

// failure is an Error without its cause.
type failure struct {
	Kind   Kind   `json:"kind"`
	Source string `json:"source,omitempty"`
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// MarshalJSON implements json.Marshaler. Of an error that is no *Error nothing is shown.
func (c Check) MarshalJSON() ([]byte, error) {
	form := checkForm{Name: c.Name, Call: c.Call, Only: c.Only, Note: c.Note}
	if c.Err != nil {
		form.Failure = &failure{Kind: KindOf(c.Err)}
		var e *Error
		if errors.As(c.Err, &e) {
			form.Failure = &failure{e.Kind, e.Source, e.Reason, e.Hint}
		}
	}
	return json.Marshal(form)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Check) UnmarshalJSON(text []byte) error {
	var form checkForm
	if err := json.Unmarshal(text, &form); err != nil {
		return err
	}
	*c = Check{Name: form.Name, Call: form.Call, Only: form.Only, Note: form.Note}
	if f := form.Failure; f != nil {
		c.Err = &Error{Kind: f.Kind, Source: f.Source, Reason: f.Reason, Hint: f.Hint}
	}
	return nil
}
