package conn

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// airflowCase is a value, and what Airflow 2.10.5 makes of it.
type airflowCase struct {
	Class       string
	Value       string
	ValueBase64 string `json:"value_base64"` // bytes that are no UTF-8
	Expect      map[string]any
	Error       string // why the value does not parse
	URI         any    `json:"get_uri"`
	URIError    string `json:"get_uri_error"` // why the look-up refuses what parses
	JSON        *string
	NoJSON      string `json:"no_json"` // why there is no file of what Airflow finds
}

func (c airflowCase) value(t *testing.T) string {
	if c.ValueBase64 == "" {
		return c.Value
	}
	b, err := base64.StdEncoding.DecodeString(c.ValueBase64)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// holdable says whether a Connection can hold the fields that Airflow gives.
func (c airflowCase) holdable() bool {
	for name, value := range c.Expect {
		switch v := value.(type) {
		case nil, string:
		case json.Number:
			if _, err := v.Int64(); name != "port" || err != nil {
				return false
			}
		default:
			return false
		}
	}
	return c.Expect != nil
}

// readGolden decodes a file of testdata, numbers as decimal text.
func readGolden(t testing.TB, name string, to any) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.UseNumber()
	if err := d.Decode(to); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
}

// airflowCases reads a file of cases, of which there are count.
func airflowCases(t testing.TB, name string, count int) []airflowCase {
	t.Helper()
	var cases []airflowCase
	readGolden(t, name, &cases)
	if len(cases) != count {
		t.Fatalf("%s holds %d cases, want %d", name, len(cases), count)
	}
	return cases
}

// fields returns a connection in the form of airflowCase.Expect.
func fields(c *Connection) map[string]any {
	m := make(map[string]any)
	for _, f := range c.texts() {
		m[f.name] = nil
		if f.text != nil {
			m[f.name] = *f.text
		}
	}
	m["port"] = nil
	if c.Port != nil {
		m["port"] = json.Number(itoa(*c.Port))
	}
	return m
}

func itoa(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestParseURIGivesWhatAirflowGives(t *testing.T) {
	for _, tc := range airflowCases(t, "uris.json", 80) {
		t.Run(tc.Value, func(t *testing.T) {
			c, err := ParseURI(tc.Value)
			if tc.Error != "" {
				if KindOf(err) != Invalid || err == nil {
					t.Fatalf("ParseURI: %v, want Invalid: Airflow raises %s", err, tc.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tc.Expect["description"] = nil
			if diff := cmp.Diff(tc.Expect, fields(c)); diff != "" {
				t.Errorf("fields (-Airflow +connfs):\n%s", diff)
			}
			uri, err := c.URI()
			if diff := cmp.Diff(tc.URI, any(uri)); diff != "" || err != nil {
				t.Errorf("URI: %v (-Airflow +connfs):\n%s", err, diff)
			}
		})
	}
}

func TestParseGivesWhatAirflowGives(t *testing.T) {
	for _, tc := range airflowCases(t, "values.json", 618) {
		value := tc.value(t)
		t.Run(tc.Class, func(t *testing.T) {
			c, err := Parse(value)
			if tc.Error != "" || !tc.holdable() {
				if tc.JSON != nil {
					t.Fatalf("%q has a file and cannot be held", value)
				}
				if KindOf(err) != Invalid || err == nil {
					t.Fatalf("Parse(%q): %v, want Invalid", value, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("Parse(%q): %v", value, err)
			}
			if diff := cmp.Diff(tc.Expect, fields(c)); diff != "" {
				t.Errorf("fields of %q (-Airflow +connfs):\n%s", value, diff)
			}
			uri, err := c.URI()
			if tc.URIError != "" {
				if KindOf(err) != Invalid || err == nil {
					t.Errorf("URI of %q: %v, want Invalid: Airflow raises %s",
						value, err, tc.URIError)
				}
			} else if diff := cmp.Diff(tc.URI, any(uri)); diff != "" || err != nil {
				t.Errorf("URI of %q: %v (-Airflow +connfs):\n%s", value, err, diff)
			}
			content, err := Render("x", c, FormatJSON)
			if tc.JSON == nil {
				if KindOf(err) != Invalid || err == nil {
					t.Errorf("Render of %q: %v, want Invalid", value, err)
				}
			} else if diff := cmp.Diff(*tc.JSON, string(content)); diff != "" || err != nil {
				t.Errorf("file of %q: %v (-want +got):\n%s", value, err, diff)
			}
		})
	}
}
