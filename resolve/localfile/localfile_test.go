package localfile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/localfile"
	"github.com/connfs/connfs/resolve/resolvetest"
)

func open(t testing.TB, path string) backend.Backend {
	t.Helper()
	return resolvetest.Open(t, localfile.Open, map[string]any{
		"connections_file_path": path, "variables_file_path": "/nothing", "configs_file_path": nil,
	})
}

func TestFilesAnswerAsAirflow(t *testing.T) {
	text, err := os.ReadFile("testdata/localfiles.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		File, Content, ID, Error string
		Expect                   map[string]any
		Absent                   bool
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) != 35 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, tc := range cases {
		t.Run(tc.File+" "+tc.ID, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tc.File)
			resolvetest.ReplaceFile(t, path, tc.Content)
			kwargs := resolvetest.Kwargs(t, map[string]any{"connections_file_path": path})
			b, err := backend.Open(&backend.Secrets{Kwargs: kwargs}, localfile.Open)
			if err != nil {
				if tc.Error == "" || !strings.Contains(tc.Error, "Unsupported file format") {
					t.Error(err)
				}
				return
			}
			c, err := b.Connection(t.Context(), tc.ID)
			switch {
			case tc.Absent:
				if conn.KindOf(err) != conn.Absent {
					t.Errorf("%v, want absent", err)
				}
			case tc.Error != "":
				if err == nil || conn.KindOf(err) != conn.Invalid {
					t.Errorf("%v, want invalid: Airflow raises %s", err, tc.Error)
				}
			case err != nil:
				t.Error(err)
			default:
				if tc.Expect["port"] == "1234" {
					// The one difference: a connection file has no text for a port.
					tc.Expect["port"] = 1234.0
				}
				if diff := cmp.Diff(tc.Expect, resolvetest.FieldsOf(c)); diff != "" {
					t.Errorf("(-Airflow +connfs):\n%s", diff)
				}
			}
		})
	}
}

func TestFilesConform(t *testing.T) {
	for _, suffix := range []string{"json", "yaml", "yml"} {
		t.Run(suffix, func(t *testing.T) {
			resolvetest.Run(t, resolvetest.Harness{
				New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
					path := filepath.Join(t.TempDir(), "connections."+suffix)
					resolvetest.ReplaceFile(t, path, resolvetest.ObjectOf(t, connections))
					return open(t, path)
				},
				Unreachable: func(t *testing.T) backend.Backend {
					return open(t, filepath.Join(t.TempDir(), "missing."+suffix))
				},
			})
		})
	}
}

func TestFilesWithoutAFile(t *testing.T) {
	b := resolvetest.Open(t, localfile.Open, map[string]any{"variables_file_path": "/x"})
	if _, err := b.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Absent {
		t.Errorf("%v, want absent", err)
	}
	for kwargs, want := range map[string]string{
		`{"connections_file_path": "connections.json"}`:                    "connections_file_path: the path must be absolute",
		`{"connections_file_path": "/connections.toml"}`:                   "connections_file_path: the name must end in",
		`{"connections_file_path": 5}`:                                     "connections_file_path: expected a string",
		`{"connections_file_path": "/connections.json", "connection": ""}`: "connection: connfs does not know this argument",
	} {
		_, err := backend.Open(&backend.Secrets{Kwargs: kwargs}, localfile.Open)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", kwargs, err, want)
		}
	}
}

func TestFilesMeanWhatPyYAMLAndPythonMean(t *testing.T) {
	const other = "\nother: mysql://h\n"
	tests := []struct {
		name, file, text string
		want             string // the file of "x"; "file": none is readable; "x": only x is not
	}{
		{"a word is a truth value", "a.yaml", "x: {conn_type: yes}" + other, "x"},
		{"octal", "a.yaml", "x: {port: 017}", `"port":15`},
		{"no octal of YAML 1.2", "a.yaml", "x: {port: 0o17}", "x"},
		{"groups of sixty", "a.yaml", "x: {port: 1:30}", `"port":90`},
		{"a port of digits", "a.yaml", "x: {port: ' 54_32 '}", `"port":5432`},
		{"a port that is no integer", "a.yaml", "x: {port: 5.0}" + other, "x"},
		{"a truth value as port", "a.json", `{"x": {"port": true}, "other": "a://b"}`, "x"},
		{"a date", "a.yaml", "x: {host: 2020-01-01}" + other, "x"},
		{"a date that does not exist", "a.yaml", "x: {host: 2020-13-01}" + other, "file"},
		{"a date in quotes", "a.yaml", "x: {host: '2020-01-01'}", `"host":"2020-01-01"`},
		{"a date in an extra", "a.yaml", "x: {extra: [2020-01-01]}" + other, "file"},
		{"a short date is text", "a.yaml", "x: {host: 2020-1-1}", `"host":"2020-1-1"`},
		{"a number as password", "a.yaml", "x: {password: 1_000}" + other, "file"},
		{"a float that is text", "a.yaml", "x: {password: 1e3}", `"password":"1e3"`},
		{"keys that are no text", "a.yaml", "x: {extra: {1: 2, true: 3, null: 4, 1.5: 5}}", `"extra":{"1": 3, "null": 4, "1.5": 5}`},
		{"keys that are one in JSON", "a.yaml", "x: {extra: {1: 2, '1': 3}}" + other, "file"},
		{"every kind of scalar", "a.yaml", "x: {extra: {b: .nan, c: 1e5, d: 1.0e+5, e: 0x1F," +
			" f: 0b11, g: 1:30:00, h: 1:30.5, i: on, j: OFF, k: y, l: -0, m: +1, n: 1., o: .5," +
			" p: 08, q: 0o7}}",
			`"extra":"{\"b\": NaN, \"c\": \"1e5\", \"d\": 100000.0, \"e\": 31, \"f\": 3, \"g\": 5400, \"h\": 90.5, \"i\": true, \"j\": false, \"k\": \"y\", \"l\": 0, \"m\": 1, \"n\": 1.0, \"o\": 0.5, \"p\": \"08\", \"q\": \"0o7\"}"`},
		{"a tag makes text", "a.yaml", "x: {login: !!str 7}", `"login":"7"`},
		{"a tag of ! alone does not", "a.yaml", "x: {port: ! 017, extra: [&a ! yes]}", `"port":15,"extra":"[true]"`},
		{"a tag that nobody knows", "a.yaml", "x: !foo bar" + other, "file"},
		{"merged mappings", "a.yaml",
			"b: &b {host: h, port: 1}\nc: &c {host: i, login: l}\nx: {port: 2, <<: [*b, *c]}",
			`"host":"h","login":"l","password":null,"schema":null,"port":2`},
		{"an anchor that stands twice", "a.yaml", "b: &b a://b\nc: &b a://c\nx: *b" + other,
			"file"},
		{"two documents", "a.yaml", "x: a://b\n---\ny: a://c", "file"},
		{"nothing", "a.yaml", "", "file"},
		{"only a comment", "a.yaml", "# x", "file"},
		{"an id that is a number", "a.yaml", "1: a://b\nx: a://b", `"host":"b"`},
		{"a number whose connection is bad", "a.yaml", "1: a://b:c\nx: a://b", "file"},
		{"ordered pairs", "a.yaml", "x: {extra: !!omap [a: 1]}" + other, "file"},
		{"a value inside itself", "a.yaml", "x: {extra: &a [*a]}" + other, "file"},
		{"aliases that multiply", "a.yaml", bomb(), "file"},
		{"the last of equal ids", "a.yaml", "x: a://b\nx: a://c", `"host":"c"`},

		{"an empty text", "a.json", `{"x": ""}`, `{"conn_type":null,"description":null,"host":null`},
		{"an empty extra", "a.json", `{"x": {"extra": {}}}`, `"extra":null`},
		{"a decoded extra that is null", "a.json", `{"x": {"extra_dejson": null}}`, `"extra":"null"`},
		{"an extra of whatever text", "a.json", `{"x": {"extra": "{bad"}}`, `"extra":"{bad"`},
		{"a uri that is a number", "a.json", `{"x": {"uri": 5}, "other": "a://b"}`, "file"},
		{"an empty uri", "a.json", `{"x": {"uri": "", "host": "h"}}`, `"host":"h"`},
		{"a lone surrogate in a host", "a.json", `{"x": "a://\ud800", "other": "a://b"}`, "x"},
		{"a lone surrogate in a password", "a.json", `{"x": "a://u:\ud800@h", "other": "a://b"}`, "file"},
		{"a mark of UTF-8", "a.json", "\ufeff" + `{"x": "a://b"}`, "file"},
		{"a list of lists", "a.json", `{"x": [[]], "other": "a://b"}`, "file"},

		{"a comment after blanks", "a.env", " \t# c\nx=a://b", `"host":"b"`},
		{"any line break", "a.env", "y=a://b\u2028x=a://c\rz=a://d", `"host":"c"`},
		{"a blank line", "a.env", " \nx=a://b\nother=a://b", "file"},
		{"bytes that are no UTF-8", "a.env", "x=a://b\nother=\xff", "file"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tc.file)
			resolvetest.ReplaceFile(t, path, tc.text)
			b := open(t, path)
			got := "x"
			if c, err := b.Connection(t.Context(), "x"); err == nil {
				if err := c.Validate(); err == nil {
					content, err := c.JSON()
					if err != nil {
						t.Fatal(err)
					}
					got = string(content)
				}
			} else if conn.KindOf(err) != conn.Invalid {
				t.Fatalf("%v, want a connection or invalid", err)
			}
			if _, err := b.Connection(t.Context(), "other"); conn.KindOf(err) == conn.Invalid {
				got = "file"
			}
			if got != tc.want && (len(tc.want) < 5 || !strings.Contains(got, tc.want)) {
				t.Errorf("%s, want %s", got, tc.want)
			}
			_, err := b.(backend.Lister).List(t.Context())
			if bad := conn.KindOf(err) == conn.Invalid; bad != (tc.want == "file") {
				t.Errorf("list: %v", err)
			}
		})
	}
}

// bomb is a small file that its aliases make huge.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1,
			strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	return b.String()
}

func TestFilesHoldSealedConnections(t *testing.T) {
	const sealed = `{"connfs_sealed": 1, "kms_conn_id": "main", "data": "AAAA"}`
	for file, text := range map[string]string{
		"a.env":  "x=" + sealed + "\n",
		"a.json": `{"x": ` + sealed + `}`,
		"b.json": `{"x": ["` + strings.ReplaceAll(sealed, `"`, `\"`) + `"]}`,
		"a.yaml": "x: '" + sealed + "'\n",
		"b.yaml": "x:\n  connfs_sealed: 1\n  kms_conn_id: main\n  data: AAAA\n",
	} {
		path := filepath.Join(t.TempDir(), file)
		resolvetest.ReplaceFile(t, path, text)
		c, err := open(t, path).Connection(t.Context(), "x")
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if extra, _ := c.Extra.Reveal(); !c.Sealed() || extra != sealed {
			t.Errorf("%s: the extra is not the sealed form", file)
		}
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	b := open(t, path)
	host := func() string {
		c, err := b.Connection(t.Context(), "x")
		if err != nil {
			return conn.KindOf(err).String()
		}
		return *c.Host
	}
	for _, step := range []struct{ text, want string }{
		{`{"x": "a://b"}`, "b"}, {`{"x": "a://c"}`, "c"}, {`{"x": "a://c", "y": 1}`, "invalid"}, {`{}`, "absent"}, {`{"x": "a://d"}`, "d"},
	} {
		resolvetest.ReplaceFile(t, path, step.text)
		if got := host(); got != step.want {
			t.Errorf("%s: %s, want %s", step.text, got, step.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := host(); got != "unreachable" {
		t.Errorf("without a file: %s", got)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := host(); got != "unreachable" {
		t.Errorf("a FIFO: %s", got)
	}
}

func TestFilesAreNeverReadInPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.env")
	text := func(host string) string {
		return "first=a://" + host + "\n" + strings.Repeat("# "+strings.Repeat(host, 100)+"\n",
			2000) + "last=a://" + host + "\n"
	}
	resolvetest.ReplaceFile(t, path, text("b"))
	b := open(t, path)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				ids, err := b.(backend.Lister).List(t.Context())
				if err != nil || len(ids) != 2 {
					t.Errorf("%q, %v", ids, err)
					return
				}
			}
		})
	}
	for i := range 100 {
		resolvetest.ReplaceFile(t, path, text(string(rune('b'+i%2))))
	}
	close(done)
	wg.Wait()
}

// One wrong entry hides the others, as in Airflow, so the message says which one it is.
func TestWhatSpoilsAFileIsNamed(t *testing.T) {
	for _, c := range []struct{ suffix, text, want string }{
		{"json", `{"a": "x://h", "b": {"conn_type": "x", "hsot": "s3cret"}}`,
			`the connection "b": it has the key "hsot", which Airflow does not take ` +
				`(did you mean "host"?)`},
		{"json", "{\"a\": \"x://h\",\n \"b\": s3cret}",
			"the JSON does not parse, at line 2, column 7"},
		{"json", `{"a": "x://h", "b": "x://u:s3cret/2@h:5/"}`,
			`the connection "b": the port is not an integer (in the login and the password, ` +
				`"@", "/", "?" and "#" must be written %40, %2F, %3F and %23)`},
		{"json", `{"a": "x://h", "b": ["x://h", "x://i"]}`,
			`the connection "b": one connection has several values`},
		{"yaml", "a: x://h\nb: {conn_type: x, pot: 5}\n",
			`the connection "b": it has the key "pot", which Airflow does not take ` +
				`(did you mean "port"?)`},
		{"yaml", "a: x://h\nb:\n  c: x\n s3cret: y\n",
			"the file is not YAML, at line 3 or near it"},
		{"env", "a=x://h\nb=x://h:s3cret/\n",
			`line 2: the connection "b": the port is not an integer (in the login and the ` +
				`password, "@", "/", "?" and "#" must be written %40, %2F, %3F and %23)`},
		{"env", "a=x://h\n\ns3cret\n", "line 3 is not ID=URI"},
	} {
		path := filepath.Join(t.TempDir(), "c."+c.suffix)
		resolvetest.ReplaceFile(t, path, c.text)
		b := resolvetest.Open(t, localfile.Open, map[string]any{"connections_file_path": path})
		_, err := b.Connection(t.Context(), "a")
		want := "local_filesystem: invalid: " + path + ": " + c.want
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", c.text, err, want)
		}
	}
}
