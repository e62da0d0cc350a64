package conn

import (
	"strings"
)

// extraKey is the parameter that carries an extra whole, of whatever form.
const extraKey = "__extra__"

// ParseURI reads a connection from a URI, as Airflow's Connection(uri=...). It
// follows Python's urlsplit, not RFC 3986: every text is a URI, a text without a
// scheme gives a connection whose conn_type is empty, and the first character of
// the path is dropped whatever it is. Host and schema are never null.
//
// Every failure is Invalid, a lone surrogate among them; see [ParseJSON].
func ParseURI(uri string) (*Connection, error) { return parseURI(surrogateEscape(uri)) }

func parseURI(uri string) (*Connection, error) {
	c, err := splitConnection(uri)
	if err != nil {
		return nil, err
	}
	if err := c.checkConstructed(); err != nil {
		return nil, err
	}
	return c, nil
}

// splitConnection returns the connection that a URI says, and does not look at what
// its fields hold.
func splitConnection(uri string) (*Connection, error) {
	parts, connType, protocol, err := splitURI(uri)
	if err != nil {
		return nil, err
	}
	c := &Connection{Type: &connType}
	host := hostOf(parts)
	if host != "" && protocol != "" {
		host = protocol + "://" + host
	}
	c.Host = &host

	schema := parts.path
	if schema != "" {
		_, width := decodeRune(schema)
		schema = unquote(schema[width:])
	}
	c.Schema = &schema

	login, password := parts.userinfo()
	if login != nil {
		text := unquote(*login)
		c.Login = &text
	}
	// Airflow's setter ignores an empty password.
	if password != nil && *password != "" {
		c.Password = NewSecret(unquote(*password))
	}
	if c.Port, err = parts.port(); err != nil {
		return nil, err
	}
	if parts.query != "" {
		c.Extra = extraOfQuery(parts.query)
	}
	return c, nil
}

// splitURI takes a URI apart. One that holds "://" twice is a host with a
// protocol of its own, http://https://host, and protocol is the second scheme.
// Airflow counts, and removes the first scheme, in the whole text, query
// included.
func splitURI(uri string) (parts urlParts, connType, protocol string, err error) {
	count := strings.Count(uri, "://")
	if count > 2 {
		return urlParts{}, "", "", invalid("the URI holds :// more than twice")
	}
	first, err := urlsplit(uri)
	if err != nil {
		return urlParts{}, "", "", err
	}
	instead := "//"
	if count == 2 {
		instead = ""
	}
	rest := strings.ReplaceAll(uri, first.scheme+"://", instead)
	if count == 2 {
		if before, _, _ := strings.Cut(rest, "://"); strings.ContainsAny(before, "@:") {
			return urlParts{}, "", "", invalid("the URI holds @ or : before its second ://")
		}
	}
	if parts, err = urlsplit(rest); err != nil {
		return urlParts{}, "", "", err
	}
	if count == 2 {
		protocol = parts.scheme
	}
	return parts, normalizeType(first.scheme), protocol, nil
}

// hostOf returns the host. One that holds "/" once it is decoded is a path,
// whose case must not change, so it is read again.
func hostOf(parts urlParts) string {
	host := unquote(parts.hostname())
	if !strings.Contains(host, "/") {
		return host
	}
	host = parts.netloc[strings.LastIndexByte(parts.netloc, '@')+1:]
	host, _, _ = strings.Cut(host, ":")
	return unquote(host)
}

// extraOfQuery returns the extra that a query stands for.
func extraOfQuery(query string) Secret {
	params := parseQuery(query)
	if extra, ok := params.values[extraKey]; ok {
		return NewSecret(extra.(string))
	}
	return NewSecret(dumps(params))
}
