package conn_test

import (
	"testing"

	"github.com/connfs/connfs/conn"
)

func TestParseRekeyed(t *testing.T) {
	words := map[string][]string{
		"login": {"login", "user"}, "password": {"password", "pass"}, "host": {"host"},
		"port": {"port"}, "schema": {"schema"},
		"conn_type": {"conn_type", "engine"}, "extra": {"extra"},
	}
	for _, tc := range []struct{ text, uri string }{
		{
			`{"engine": "postgresql", "user": "u", "pass": "p", "host": "h", "port": "5432", ` +
				`"dbname": "lost"}`,
			"postgres://u:p@h:5432",
		},
		{`{"user": "first", "login": "second", "conn_type": "x"}`, "x://first@"},
		{`{"login": "first", "user": "second", "conn_type": "x", "login": "last"}`, "x://last@"},
		{`{"user": null, "login": "second", "conn_type": "x"}`, "x://"},
		{
			`{"conn_type": "x", "extra": {"a": 1e3}, "uri": "lost://"}`,
			"x:///?__extra__=%7B%22a%22%3A+1000.0%7D",
		},
	} {
		c, err := conn.ParseRekeyed(tc.text, words)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if got, _ := c.URI(); got != tc.uri {
			t.Errorf("%s: %s, want %s", tc.text, got, tc.uri)
		}
	}
	for _, text := range []string{`{"conn_type": 5}`, `{`, `[]`, `{} {}`, `{"port": "x"}`, "\v{}"} {
		_, err := conn.ParseRekeyed(text, words)
		if err == nil || conn.KindOf(err) != conn.Invalid {
			t.Errorf("%s: %v, want invalid", text, err)
		}
	}
}

func TestIsJSONObject(t *testing.T) {
	for text, want := range map[string]bool{
		"{": true, " \n\v{}": true, "": false, " ": false, "http://{": false, "[{}]": false,
		"\ufeff{}": false,
	} {
		if conn.IsJSONObject(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
