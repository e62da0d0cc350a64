package conn

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/python"
)

// Validate reports whether Airflow's look-up finds this connection. Airflow makes the
// URI of every connection that a backend returns; if that fails, it goes on as if there
// were no such connection. The error is Invalid.
func (c *Connection) Validate() error {
	_, err := c.URI()
	return err
}

// URI returns the connection as Airflow 2.10's get_uri writes it. What Airflow's URI
// does not hold is lost here too: the description, port 0, an empty login,
// the case of the conn_type. An extra that is not a flat object of texts is the
// parameter __extra__ as a whole. The error is Invalid.
func (c *Connection) URI() (string, error) {
	if err := c.checkUnicode(); err != nil {
		return "", err
	}
	query, err := c.extraQuery()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if connType := deref(c.Type); connType != "" {
		b.WriteString(strings.ReplaceAll(python.Lower(connType), "_", "-") + ":")
	}
	b.WriteString("//")

	protocol, host, ok := strings.Cut(deref(c.Host), "://")
	switch {
	case !ok:
		host = protocol
	case protocol != "":
		b.WriteString(protocol + "://")
	}
	user := c.quotedUser()
	b.WriteString(user + python.Quote(host))
	if c.Port != nil && *c.Port != 0 {
		if user == "" && host == "" {
			b.WriteByte('@')
		}
		b.WriteString(":" + strconv.FormatInt(*c.Port, 10))
	}
	schema := deref(c.Schema)
	if schema != "" {
		b.WriteString("/" + python.Quote(schema))
	}
	if query != "" {
		if schema == "" {
			b.WriteByte('/')
		}
		b.WriteString("?" + query)
	}
	return b.String(), nil
}

// quotedUser returns login and password with the "@" after them, and "" if there
// is neither.
func (c *Connection) quotedUser() string {
	user := python.Quote(deref(c.Login))
	if password, ok := c.Password.Reveal(); ok {
		user += ":" + python.Quote(password)
	}
	if user != "" {
		user += "@"
	}
	return user
}

// extraQuery returns the query that holds the extra: its keys as parameters if
// they read back as the same object, and else the whole text as one parameter.
func (c *Connection) extraQuery() (string, error) {
	text, _ := c.Extra.Reveal()
	if text == "" {
		return "", nil
	}
	extra, err := c.loadExtra()
	if err != nil {
		return "", err
	}
	if !encodable(extra) {
		return "", invalid("the extra holds a lone surrogate")
	}
	params, flat := []string(nil), true
	if o, ok := extra.(*python.Object); ok {
		for _, key := range o.Keys() {
			if !utf8.ValidString(key) {
				return "", invalid("the extra holds a lone surrogate")
			}
			value, isText := o.Get(key).(string)
			flat = flat && isText
			params = append(params, python.QuotePlus(key)+"="+python.QuotePlus(value))
		}
	}
	if flat && len(params) > 0 {
		return strings.Join(params, "&"), nil
	}
	return extraKey + "=" + python.QuotePlus(text), nil
}

// encodable reports whether every text in a decoded extra, at any depth, can be
// written as UTF-8. Airflow gives each of them, but not the keys, to the masker of its
// task logs, which fails if it cannot.
func encodable(value any) bool {
	switch v := value.(type) {
	case string:
		return utf8.ValidString(v)
	case []any:
		for _, item := range v {
			if !encodable(item) {
				return false
			}
		}
	case *python.Object:
		for _, key := range v.Keys() {
			if !encodable(v.Get(key)) {
				return false
			}
		}
	}
	return true
}

// deref returns the text, and the empty text for null.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
