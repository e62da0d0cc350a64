package conn

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ptr[T any](v T) *T { return &v }

func TestJSONOfRows(t *testing.T) {
	for name, tc := range map[string]struct {
		c    Connection
		want string // "": Invalid
	}{
		"nothing": {
			Connection{},
			`{"conn_type":null,"description":null,"host":null,"login":null,"password":null,` +
				`"schema":null,"port":null,"extra":null}`,
		},
		"everything empty": {
			Connection{
				ptr(""), ptr(""), ptr(""), ptr(""), NewSecret(""), ptr(""), ptr(int64(0)),
				NewSecret(""),
			},
			`{"conn_type":"","description":"","host":"","login":"","password":"","schema":"",` +
				`"port":0,"extra":""}`,
		},
		"an extra with layout of its own": {
			Connection{Extra: NewSecret("\n {\"a\":\n1.0} \t")},
			`{"conn_type":null,"description":null,"host":null,"login":null,"password":null,` +
				`"schema":null,"port":null,"extra":` + "\n {\"a\":\n1.0} \t}",
		},
		"an extra with NaN": {
			Connection{Extra: NewSecret(`{"a":NaN}`)},
			`{"conn_type":null,"description":null,"host":null,"login":null,"password":null,` +
				`"schema":null,"port":null,"extra":"{\"a\":NaN}"}`,
		},
		"a list": {
			Connection{Extra: NewSecret(`[1]`)},
			`{"conn_type":null,"description":null,"host":null,"login":null,"password":null,` +
				`"schema":null,"port":null,"extra":"[1]"}`,
		},
		"a host that is not UTF-8":   {Connection{Host: ptr("\xff")}, ""},
		"an extra that is not UTF-8": {Connection{Extra: NewSecret("{\"a\":\"\xff\"}")}, ""},
	} {
		content, err := tc.c.JSON()
		if tc.want == "" {
			if err == nil || KindOf(err) != Invalid {
				t.Errorf("%s: %v, want Invalid", name, err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want+"\n", string(content)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestStringsAreWrittenAsEncodingJSONDoes(t *testing.T) {
	var all strings.Builder
	for r := rune(0); r < 0x3000; r++ {
		all.WriteRune(r)
	}
	all.WriteString("\U0001F511\uFFFF\uFFFD")
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	if err := e.Encode(all.String()); err != nil {
		t.Fatal(err)
	}
	got := appendString(nil, all.String())
	if diff := cmp.Diff(want.String(), string(got)+"\n"); diff != "" {
		t.Errorf("(-encoding/json +connfs):\n%s", diff)
	}
}

// These are connections that only rows can hold. The golden cases have those of texts.
func TestURIOfRows(t *testing.T) {
	for _, tc := range []struct {
		c    Connection
		want string
	}{
		{Connection{Password: NewSecret("")}, "//:@"},
		{Connection{Type: ptr("My_Type"), Port: ptr(int64(-3))}, "my-type://@:-3"},
		{Connection{Type: ptr("a"), Host: ptr("h"), Port: ptr(int64(70000))}, "a://h:70000"},
		{Connection{Type: ptr("a"), Host: ptr("://h")}, "a://h"},
		{
			Connection{Type: ptr("a"), Host: ptr("B_c://d://e"), Login: ptr("l@")},
			"a://B_c://l%40@d%3A%2F%2Fe",
		},
		{Connection{Type: ptr("ΑΣ")}, "ας://"},
		{
			Connection{Type: ptr("a"), Extra: NewSecret(`{"b":"c d","e":"é"}`)},
			"a:///?b=c+d&e=%C3%A9",
		},
		{
			Connection{Type: ptr("a"), Schema: ptr("s"), Extra: NewSecret(`{"b":1}`)},
			"a:///s?__extra__=%7B%22b%22%3A1%7D",
		},
		{Connection{Type: ptr("a"), Extra: NewSecret(`{}`)}, "a:///?__extra__=%7B%7D"},
		{Connection{Type: ptr("a"), Extra: NewSecret("no JSON")}, "a:///?__extra__=no+JSON"},
	} {
		got, err := tc.c.URI()
		if err != nil || got != tc.want {
			t.Errorf("URI = %q, %v, want %q", got, err, tc.want)
		}
	}
}

func TestRender(t *testing.T) {
	c, err := Parse(`mysql://u:it's%20$HOME%0A"@h/s?a='b'`)
	if err != nil {
		t.Fatal(err)
	}
	const content = `{"conn_type":"mysql","description":null,"host":"h","login":"u",` +
		`"password":"it's $HOME\n\"","schema":"s","port":null,"extra":{"a": "'b'"}}`
	for format, want := range map[Format]string{
		FormatJSON: content + "\n",
		FormatURI:  "mysql://u:it%27s%20%24HOME%0A%22@h/s?a=%27b%27\n",
		FormatEnv:  "AIRFLOW_CONN_MY_DB='" + strings.ReplaceAll(content, "'", `'\''`) + "'\n",
	} {
		got, err := Render("my_db", c, format)
		if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", format, err, diff)
		}
	}
	if _, err := Render("my.db", c, FormatEnv); err == nil || KindOf(err) != Invalid {
		t.Errorf("env of an id that no shell can name: %v, want Invalid", err)
	}
	if _, err := Render("my_db", c, "yaml"); err == nil {
		t.Error("a format that does not exist was rendered")
	}
	lost := Connection{Extra: NewSecret(`{"a":"\ud800"}`)}
	for _, format := range []Format{FormatJSON, FormatURI, FormatEnv} {
		if _, err := Render("x", &lost, format); err == nil || KindOf(err) != Invalid {
			t.Errorf("%s of what Airflow does not find: %v, want Invalid", format, err)
		}
	}
}

func TestShellReadsTheEnvLine(t *testing.T) {
	c := Connection{
		Type: ptr("a"), Password: NewSecret("'\\\n$(id)`id` \"é'"),
		Extra: NewSecret("{\"a\":\n\"'\"}"),
	}
	line, err := Render("x1", &c, FormatEnv)
	if err != nil {
		t.Fatal(err)
	}
	script := t.TempDir() + "/env.sh"
	if err := os.WriteFile(script, line, 0o600); err != nil {
		t.Fatal(err)
	}
	const show = `. "$0"; printf '%s\n' "$AIRFLOW_CONN_X1"`
	got, err := exec.Command("/bin/sh", "-c", show, script).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("what the shell has (-want +got):\n%s", diff)
	}
}
