package conn

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Format is a form in which a connection is shown.
type Format string

// The formats of [Render].
const (
	// FormatJSON is the content of /conn/<id>.json.
	FormatJSON Format = "json"
	// FormatURI is Airflow's own URI and a newline.
	FormatURI Format = "uri"
	// FormatEnv is a line of shell, NAME='json' and a newline, that sets the
	// environment variable from which Airflow reads the connection.
	FormatEnv Format = "env"
)

// Render returns the connection id as its reader gets it. The error is Invalid if Airflow's
// look-up would not accept the connection; see [Connection.Validate].
//
// A line of FormatEnv is for eval or source by any POSIX shell. The value is
// quoted as a whole, and holds line breaks if the extra does. An id whose
// variable no shell can name, such as "a.b", is Invalid in that format.
func Render(id string, c *Connection, format Format) ([]byte, error) {
	uri, err := c.URI()
	if err != nil {
		return nil, err
	}
	switch format {
	case FormatJSON:
		return c.JSON()
	case FormatURI:
		return []byte(uri + "\n"), nil
	case FormatEnv:
		return c.shellLine(id)
	}
	return nil, Errorf(Failed, "", "there is no format %q", string(format))
}

// shellLine returns the assignment of FormatEnv.
func (c *Connection) shellLine(id string) ([]byte, error) {
	name := EnvName(id)
	if !isShellName(name) {
		return nil, invalid("a shell cannot name the variable of this id")
	}
	content, err := c.JSON()
	if err != nil {
		return nil, err
	}
	value := strings.TrimSuffix(string(content), "\n")
	return []byte(name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n"), nil
}

// isShellName reports whether a POSIX shell can assign to the variable name, which
// is not empty and does not begin with a digit.
func isShellName(name string) bool {
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// JSON returns the content of the connection's file: one compact object that always has
// the same eight keys, with null for what Airflow does not have, and a newline. An extra
// that is a JSON object (RFC 8259) is copied into it byte for byte; any other extra
// is a string with the text. Airflow reads an equal connection from it.
//
// The error is Invalid if a field is not UTF-8.
func (c *Connection) JSON() ([]byte, error) {
	if err := c.checkUnicode(); err != nil {
		return nil, err
	}
	b := appendField([]byte{'{'}, "conn_type", c.Type)
	b = appendField(append(b, ','), "description", c.Description)
	b = appendField(append(b, ','), "host", c.Host)
	b = appendField(append(b, ','), "login", c.Login)
	b = appendField(append(b, ','), "password", c.Password.pointer())
	b = appendField(append(b, ','), "schema", c.Schema)
	b = append(b, `,"port":`...)
	if c.Port == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, *c.Port, 10)
	}
	if extra, _ := c.Extra.Reveal(); isJSONObject(extra) {
		b = append(append(b, `,"extra":`...), extra...)
	} else {
		b = appendField(append(b, ','), "extra", c.Extra.pointer())
	}
	return append(b, '}', '\n'), nil
}

// isJSONObject reports whether text is an object by RFC 8259, with or without white
// space around it.
func isJSONObject(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, " \t\n\r"), "{") && json.Valid([]byte(text))
}

// appendField appends a key and its text, or null.
func appendField(b []byte, key string, text *string) []byte {
	b = append(b, '"')
	b = append(b, key...)
	b = append(b, `":`...)
	if text == nil {
		return append(b, "null"...)
	}
	return appendString(b, *text)
}

// appendString appends a JSON string as encoding/json writes it without HTML
// escapes. That package is not used because it keeps its buffers for later, with the
// passwords that it wrote into them.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch i := strings.IndexRune("\"\\\b\f\n\r\t", r); {
		case i >= 0:
			b = append(b, '\\', `"\bfnrt`[i])
		case r < ' ' || r == '\u2028' || r == '\u2029':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
