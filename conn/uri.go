package conn

import (
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// extraKey is the parameter that holds a whole extra, whatever its form.
const extraKey = "__extra__"

// ParseURI reads a connection from a URI, as Airflow's Connection(uri=...) does. It
// follows Python's urlsplit, not RFC 3986: every text is a URI, a text without a
// scheme is a connection with an empty conn_type, and the first character of
// the path is dropped whatever it is. Host and schema are never null.
//
// Every failure is Invalid. A lone surrogate is one; see [ParseJSON].
func ParseURI(uri string) (*Connection, error) { return parseURI(python.SurrogateEscape(uri)) }

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

// splitConnection returns the connection in a URI, without any check of its fields.
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

	schema := parts.Path
	if schema != "" {
		_, width := python.DecodeRune(schema)
		schema = python.Unquote(schema[width:])
	}
	c.Schema = &schema

	login, password := parts.Userinfo()
	if login != nil {
		text := python.Unquote(*login)
		c.Login = &text
	}
	// Airflow's setter ignores an empty password.
	if password != nil && *password != "" {
		c.Password = NewSecret(python.Unquote(*password))
	}
	if c.Port, err = parts.Port(); err != nil {
		// Most often it is not the port: what stands before ends too early, or too late.
		return nil, &Error{Kind: Invalid, Reason: err.Error(), Hint: `in the login and the ` +
			`password, "@", "/", "?" and "#" must be written %40, %2F, %3F and %23`}
	}
	if parts.Query != "" {
		c.Extra = extraOfQuery(parts.Query)
	}
	return c, nil
}

// splitURI takes a URI apart. If it holds "://" twice, the host has a protocol of its own,
// as in http://https://host, and protocol is the second scheme. Airflow counts them in the
// whole text, query included, and also removes the first scheme wherever it is.
func splitURI(uri string) (parts python.SplitResult, connType, protocol string, err error) {
	count := strings.Count(uri, "://")
	if count > 2 {
		return python.SplitResult{}, "", "", invalid("the URI holds :// more than twice")
	}
	first, err := python.URLSplit(uri)
	if err != nil {
		return python.SplitResult{}, "", "", invalid("%v", err)
	}
	instead := "//"
	if count == 2 {
		instead = ""
	}
	rest := strings.ReplaceAll(uri, first.Scheme+"://", instead)
	before, _, _ := strings.Cut(rest, "://")
	if count == 2 && strings.ContainsAny(before, "@:") {
		return python.SplitResult{}, "", "", invalid("the URI holds @ or : before its second ://")
	}
	if parts, err = python.URLSplit(rest); err != nil {
		return python.SplitResult{}, "", "", invalid("%v", err)
	}
	if count == 2 {
		protocol = parts.Scheme
	}
	return parts, normalizeType(first.Scheme), protocol, nil
}

// hostOf returns the host. If it holds "/" after it is decoded, it is a path, whose case
// must not change, so it is read again.
func hostOf(parts python.SplitResult) string {
	host := python.Unquote(parts.Hostname())
	if !strings.Contains(host, "/") {
		return host
	}
	host = parts.Netloc[strings.LastIndexByte(parts.Netloc, '@')+1:]
	host, _, _ = strings.Cut(host, ":")
	return python.Unquote(host)
}

// extraOfQuery returns the extra that a query holds.
func extraOfQuery(query string) Secret {
	params := python.ParseQuery(query)
	if extra, ok := params.Get(extraKey).(string); ok {
		return NewSecret(extra)
	}
	return NewSecret(python.DumpJSON(params))
}
