package conn

import (
	"strconv"
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// jsonKeys are the keys that a connection may have in JSON: the arguments of Airflow's
// constructor, but conn_id, which from_json refuses.
var jsonKeys = map[string]bool{
	"conn_type": true, "description": true, "host": true, "login": true, "password": true,
	"schema": true, "port": true, "extra": true, "uri": true,
}

// ParseJSON reads a connection from JSON, as Airflow's Connection.from_json does. It
// takes what Python's parser takes (NaN, lone surrogates, equal keys of which
// the last counts) and what Python's int() takes for a port (" 54_32 ", 5432.9,
// true). An extra that is not text is written as json.dumps writes it.
//
// Every failure is Invalid. Airflow also accepts connections with values that a
// Connection cannot hold: a description, host or schema that is no text, a port
// beyond 64 bits, a lone surrogate. They are Invalid too.
func ParseJSON(text string) (*Connection, error) { return parseJSON(python.SurrogateEscape(text)) }

func parseJSON(text string) (*Connection, error) {
	value, err := python.LoadJSON(text, python.MaxDepth+1)
	if err != nil {
		return nil, invalid("%v", err)
	}
	o, ok := value.(*python.Object)
	if !ok {
		return nil, invalid("the JSON is not an object")
	}
	for _, key := range o.Keys() {
		if !jsonKeys[key] {
			return nil, invalid("the JSON holds a key that Airflow does not take")
		}
	}
	c, err := fromObject(o)
	if err != nil {
		return nil, err
	}
	if err := c.checkConstructed(); err != nil {
		return nil, err
	}
	return c, nil
}

// fromObject is Airflow's constructor, with the arguments that from_json gives it.
func fromObject(o *python.Object) (c *Connection, err error) {
	c = &Connection{}
	if c.Type, err = connType(o.Get("conn_type")); err != nil {
		return nil, err
	}
	if c.Port, err = port(o.Get("port")); err != nil {
		return nil, err
	}
	if c.Description, err = textOf("description", o.Get("description")); err != nil {
		return nil, err
	}
	if uri := o.Get("uri"); python.Truthy(uri) {
		return c.fromURIKey(uri, o)
	}
	c.Extra = extraOf(o.Get("extra"))
	// Airflow ignores a password that is empty or otherwise false, of any type.
	if password := o.Get("password"); python.Truthy(password) {
		text, ok := password.(string)
		if !ok {
			return nil, invalid("the password is not a string")
		}
		c.Password = NewSecret(text)
	}
	for _, f := range []struct {
		name string
		to   **string
	}{{"host", &c.Host}, {"login", &c.Login}, {"schema", &c.Schema}} {
		if *f.to, err = textOf(f.name, o.Get(f.name)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// fromURIKey reads the connection from the key "uri". Of the other keys only the
// description may hold anything but what is empty or otherwise false, of any type.
func (c *Connection) fromURIKey(uri any, o *python.Object) (*Connection, error) {
	mixed := c.Type != nil || c.Port != nil && *c.Port != 0
	for _, key := range []string{"host", "login", "password", "schema", "extra"} {
		mixed = mixed || python.Truthy(o.Get(key))
	}
	if mixed {
		return nil, invalid("the JSON mixes uri with single values")
	}
	text, ok := uri.(string)
	if !ok {
		return nil, invalid("the uri is not a string")
	}
	parsed, err := parseURI(text)
	if err != nil {
		return nil, err
	}
	parsed.Description = c.Description
	return parsed, nil
}

// connType returns a conn_type as Airflow normalises it, and nil if it
// is empty or otherwise false.
func connType(value any) (*string, error) {
	if !python.Truthy(value) {
		return nil, nil
	}
	text, ok := value.(string)
	if !ok {
		return nil, invalid("the conn_type is not a string")
	}
	text = normalizeType(text)
	return &text, nil
}

// normalizeType writes a conn_type as Airflow stores it.
func normalizeType(connType string) string {
	if connType == "postgresql" {
		return "postgres"
	}
	return strings.ReplaceAll(connType, "-", "_")
}

// port returns a port by Python's int(), and nil if it is 0, empty or
// otherwise false. (The text "0" is not false, and is port 0.)
func port(value any) (*int64, error) {
	if !python.Truthy(value) {
		return nil, nil
	}
	var n int64
	var err error
	switch v := value.(type) {
	case bool:
		n = 1
	case python.Integer:
		if n, err = strconv.ParseInt(string(v), 10, 64); err != nil {
			err = python.ErrBeyond64
		}
	case float64:
		n, err = python.IntOfFloat(v)
	case string:
		n, err = python.Int(v)
	default:
		err = python.ErrNotInteger
	}
	if err != nil {
		return nil, invalid("the port is %v", err)
	}
	return &n, nil
}

// textOf returns the text of a field.
func textOf(name string, value any) (*string, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return &v, nil
	}
	return nil, invalid("the %s is not a string", name)
}

// extraOf returns the text that Airflow stores for an extra, and null if it
// is empty or otherwise false.
func extraOf(value any) Secret {
	if !python.Truthy(value) {
		return Secret{}
	}
	if text, ok := value.(string); ok {
		return NewSecret(text)
	}
	return NewSecret(python.DumpJSON(value))
}
