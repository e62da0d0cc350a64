package metastore

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// sqlURL is a database URL as SQLAlchemy takes it apart. It may hold a password in
// any of its parts, since a password with an unescaped "@", "/" or "?" spills over
// into them: nothing of it but the names of known parameters may be printed.
type sqlURL struct {
	Dialect  string // what stands before "://": "postgresql+psycopg2"
	User     string
	Password string
	Host     string // without brackets; empty: the driver's default
	Port     uint16 // 0: the driver's default
	Database string // as written, not decoded
	Query    sqlQuery
}

// sqlQuery holds the values of each parameter in the order of the URL. Those with
// an empty value do not count.
type sqlQuery map[string][]string

// sqlURLPattern has the parts of SQLAlchemy's make_url. Like there, what stands
// behind the last part that fits is ignored.
var sqlURLPattern = regexp.MustCompile(`^([\w+]+)://` +
	`(?:([^:/]*)(?::([^@]*))?@)?` +
	`(?:(?:\[([^/?]+)\]|([^/:?]+))?(:[^/?]*)?)?` +
	`(?:/([^?]*))?` +
	`(?:\?(.*))?`)

// parseSQLURL reads a URL by the rules of SQLAlchemy's make_url: user and password
// are percent-decoded, host and database are not, and the query is a form, in which
// "+" is a blank. The error shows nothing of the URL.
func parseSQLURL(text string) (*sqlURL, error) {
	if strings.HasPrefix(text, "airflow-db-not-allowed:") {
		return nil, fmt.Errorf("the database URL is the placeholder that Airflow 3 gives to " +
			"tasks: take the URL from airflow.cfg")
	}
	m := sqlURLPattern.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("the database URL does not begin with DIALECT://")
	}
	u := &sqlURL{
		Dialect:  m[1],
		User:     python.Unquote(m[2]),
		Password: python.Unquote(m[3]),
		Host:     m[4] + m[5],
		Database: m[7],
		Query:    parseQuery(m[8]),
	}
	if strings.Contains(u.Host, "@") {
		return nil, fmt.Errorf(`the host in the database URL holds an "@": one in the password must be written %%40`)
	}
	if m[6] != "" {
		port, err := strconv.ParseUint(strings.TrimSpace(m[6][1:]), 10, 16)
		if err != nil {
			return nil, fmt.Errorf(`the port in the database URL is no number up to 65535: a ":" in the user and an "@" in the password must be written %%3A and %%40`)
		}
		u.Port = uint16(port)
	}
	return u, nil
}

// parseQuery reads a query as Python's parse_qsl does, which leaves out parameters
// without a value.
func parseQuery(s string) sqlQuery {
	q := make(sqlQuery)
	for pair := range strings.SplitSeq(s, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if value == "" {
			continue
		}
		name = python.Unquote(strings.ReplaceAll(name, "+", " "))
		q[name] = append(q[name], python.Unquote(strings.ReplaceAll(value, "+", " ")))
	}
	return q
}

// fileURI returns the URI by which SQLite opens path with these parameters.
func fileURI(path string, parameters url.Values) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + parameters.Encode()
}
