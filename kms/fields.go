package kms

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
)

// DefaultFields are the fields that Airflow itself encrypts. The other columns of a metastore
// row stay readable.
func DefaultFields() []string { return []string{"extra", "password"} }

// AllFields are the fields that can be sealed, under Airflow's names. In a sealed form that
// stands alone, as the value of a variable or of a secret, all of them are sealed.
func AllFields() []string {
	return []string{
		"conn_type", "description", "extra", "host", "login", "password", "port", "schema",
	}
}

// parseFields reads the names of sealed fields in a form: sorted, each one once, the
// extra always among them, since the form stands in its place.
func parseFields(text string) ([]string, error) {
	names := strings.Split(text, ",")
	for i, name := range names {
		if !slices.Contains(AllFields(), name) {
			return nil, invalid("%s is no field of a connection", printable(name))
		}
		if i > 0 && names[i-1] >= name {
			return nil, invalid("the fields are not in order")
		}
	}
	if !slices.Contains(names, "extra") {
		return nil, invalid("the extra is not among the fields")
	}
	return names, nil
}

// fieldNames returns the names of the fields to seal as a form has them. Without names they
// are [DefaultFields].
func fieldNames(names []string) ([]string, error) {
	if len(names) == 0 {
		return DefaultFields(), nil
	}
	all := append([]string{"extra"}, names...)
	slices.Sort(all)
	return parseFields(strings.Join(slices.Compact(all), ","))
}

// fieldsOf returns pointers to the fields of c that are text and not secret.
func fieldsOf(c *conn.Connection) map[string]**string {
	return map[string]**string{
		"conn_type": &c.Type, "description": &c.Description,
		"host": &c.Host, "login": &c.Login, "schema": &c.Schema,
	}
}

// take moves the named fields out of a copy of c, as the plaintext of a payload: a JSON
// object of text, null and, for the port, an integer. The caller wipes it.
func take(c *conn.Connection, names []string) (rest *conn.Connection, payload []byte, err error) {
	left := *c
	values := make(map[string]any, len(names))
	texts := fieldsOf(&left)
	for _, name := range names {
		var text *string
		switch name {
		case "port":
			values[name], left.Port = left.Port, nil
			continue
		case "password":
			text, left.Password = reveal(left.Password), conn.Secret{}
		case "extra":
			text, left.Extra = reveal(left.Extra), conn.Secret{}
		default:
			text, *texts[name] = *texts[name], nil
		}
		if text != nil && !utf8.ValidString(*text) {
			return nil, nil, conn.Errorf(conn.Invalid, "", "the %s is not UTF-8", name)
		}
		values[name] = text
	}
	b := new(bytes.Buffer)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(values); err != nil {
		return nil, nil, conn.Errorf(conn.Failed, "", "the fields cannot be written as JSON")
	}
	return &left, bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// put returns a copy of c with the fields of a payload in place of its own. A sealed field
// counts even where it is null and the column is not.
func put(c *conn.Connection, names []string, payload []byte) (*conn.Connection, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(payload, &values); err != nil {
		return nil, invalid("what it holds is not a JSON object")
	}
	if !slices.Equal(slices.Sorted(maps.Keys(values)), names) {
		return nil, rejected("it holds other fields than it says", hintChanged)
	}
	whole := *c
	texts := fieldsOf(&whole)
	for name, raw := range values {
		to := texts[name]
		if name == "port" {
			whole.Port = nil
			if json.Unmarshal(raw, &whole.Port) != nil {
				return nil, invalid("the port in it is not an integer")
			}
			continue
		}
		var text *string
		if json.Unmarshal(raw, &text) != nil {
			return nil, invalid("the %s in it is not a text", name)
		}
		switch name {
		case "password":
			whole.Password = secret(text)
		case "extra":
			whole.Extra = secret(text)
		default:
			*to = text
		}
	}
	if whole.Sealed() {
		return nil, invalid("what it holds is sealed again")
	}
	return &whole, nil
}

func reveal(s conn.Secret) *string {
	text, ok := s.Reveal()
	if !ok {
		return nil
	}
	return &text
}

func secret(text *string) conn.Secret {
	if text == nil {
		return conn.Secret{}
	}
	return conn.NewSecret(*text)
}
