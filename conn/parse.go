package conn

import (
	"errors"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/python"
)

// Parse reads a connection from the text that a string backend holds for it: an
// environment variable, an SSM parameter, a Vault secret. It follows the rule that all of
// Airflow's backends share: what Python takes for white space is dropped around the text.
// Then text that begins with "{" is JSON, as [ParseJSON] reads it, and all other text is a
// URI, as [ParseURI] reads it. Bytes that are not UTF-8 become what Python's
// surrogateescape makes of them.
//
// A JSON object that is a sealed form becomes a connection with only an extra, which is
// the sealed form; see [Connection.Sealed].
//
// To Airflow an empty value means that there is no connection; the caller must find that
// out first. Every failure is Invalid, a value of white space only too. No error shows
// anything of the value, which may hold a password anywhere.
func Parse(value string) (*Connection, error) {
	text := python.Strip(python.SurrogateEscape(value))
	switch {
	case text == "":
		return nil, invalid("the value is blank")
	case IsSealed(text):
		return &Connection{Extra: NewSecret(text)}, nil
	case text[0] == '{':
		return parseJSON(text)
	default:
		return parseURI(text)
	}
}

// invalid returns an error of kind Invalid. The backend that held the value
// names itself as the source.
func invalid(format string, args ...any) error {
	return Errorf(Invalid, "", format, args...)
}

// field is a text field of a connection under its name in Airflow.
type field struct {
	name string
	text *string
}

// texts returns the fields that hold text, null ones as nil.
func (c *Connection) texts() []field {
	return []field{
		{"conn_type", c.Type},
		{"description", c.Description},
		{"host", c.Host},
		{"login", c.Login},
		{"password", c.Password.pointer()},
		{"schema", c.Schema},
		{"extra", c.Extra.pointer()},
	}
}

// pointer returns the text, or nil for null.
func (s Secret) pointer() *string {
	if !s.valid {
		return nil
	}
	return &s.text
}

// checkUnicode reports the first field that is not UTF-8. Python would hold a
// lone surrogate there, which neither a URI nor a file can carry.
func (c *Connection) checkUnicode() error {
	for _, f := range c.texts() {
		if f.text != nil && !utf8.ValidString(*f.text) {
			return invalid("the %s holds a lone surrogate", f.name)
		}
	}
	return nil
}

// checkConstructed reports what Airflow's constructor refuses in a connection
// that was read from text: it writes the fields as UTF-8 and reads the extra as
// JSON once. It accepts an extra that is no JSON at all, but not one that exceeds a
// limit of Python's parser.
func (c *Connection) checkConstructed() error {
	if err := c.checkUnicode(); err != nil {
		return err
	}
	_, err := c.loadExtra()
	return err
}

// loadExtra returns the extra as Airflow's extra_dejson does: decoded, and an
// empty object if there is no extra or it is no JSON.
func (c *Connection) loadExtra() (any, error) {
	text, _ := c.Extra.Reveal()
	if text == "" {
		return &python.Object{}, nil
	}
	value, err := python.LoadJSON(text, python.MaxDepth)
	switch {
	case errors.Is(err, python.ErrSyntax):
		return &python.Object{}, nil
	case err != nil:
		return nil, invalid("the extra: %v", err)
	}
	return value, nil
}
