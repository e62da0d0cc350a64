package conn

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/python"
)

func TestLimitsOfPythonsParser(t *testing.T) {
	nest := func(open, end string, n int) string {
		return strings.Repeat(open, n) + "1" + strings.Repeat(end, n)
	}
	digits := strings.Repeat("9", python.MaxDigits)
	for name, tc := range map[string]struct {
		value string
		ok    bool
	}{
		"deepest list": {`{"extra":` + nest("[", "]", python.MaxDepth) + `}`, true},
		"deepest object": {
			`{"extra":` + nest(`{"a":`, "}", python.MaxDepth) + `}`, true,
		},
		"list too deep": {
			`{"extra":` + nest("[", "]", python.MaxDepth+1) + `}`, false,
		},
		"text of deepest list": {`{"extra":"` + nest("[", "]", python.MaxDepth) + `"}`, true},
		"text of list too deep": {
			`{"extra":"` + nest("[", "]", python.MaxDepth+1) + `"}`, false,
		},
		"parameter too deep": {
			`a://?__extra__=` + nest("[", "]", python.MaxDepth+1), false,
		},
		"hostile depth":             {`{"extra":` + strings.Repeat("[", 1<<20), false},
		"longest integer":           {`{"extra":` + digits + `}`, true},
		"longest negative integer":  {`{"extra":-` + digits + `}`, true},
		"integer too long":          {`{"extra":` + digits + `9}`, false},
		"text of integer too long":  {`{"extra":"` + digits + `9"}`, false},
		"long text that is no JSON": {`{"extra":"x` + digits + `9"}`, true},
		"longest port with zeros": {
			`{"port":"` + strings.Repeat("0", python.MaxDigits-1) + `7"}`, true,
		},
		"port with too many zeros": {
			`{"port":"` + strings.Repeat("0", python.MaxDigits) + `7"}`, false,
		},
		"URI port with many zeros": {
			`a://h:` + strings.Repeat("0", python.MaxDigits) + `7`, false,
		},
		"exponent of any size":       {`{"extra":{"a":1e` + digits + `}}`, true},
		"largest port that fits":     {`{"port":9223372036854775807}`, true},
		"smallest port that fits":    {`{"port":"-9223372036854775808"}`, true},
		"port one too large":         {`{"port":9223372036854775808}`, false},
		"float port one too large":   {`{"port":9223372036854775808.0}`, false},
		"float port that just fits":  {`{"port":-9223372036854775808.0}`, true},
		"separator before the digit": {`{"port":"\u001c5"}`, false},
	} {
		c, err := Parse(tc.value)
		if tc.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			if KindOf(err) != Invalid {
				t.Errorf("%s: %v, want Invalid", name, err)
			}
			continue
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: parsed, but %v", name, err)
		}
	}
}

func TestExtraIsWrittenAsPythonWritesIt(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1E5,"b":1e16,"c":1e400,"d":-1e400,"e":NaN}`: "" +
			`{"a": 100000.0, "b": 1e+16, "c": Infinity, "d": -Infinity, "e": NaN}`,
		`{"a":-0,"b":-0.0,"c":0.0001,"d":1e-5,"e":5e-324}`: "" +
			`{"a": 0, "b": -0.0, "c": 0.0001, "d": 1e-05, "e": 5e-324}`,
		`{"b":1,"a":{},"b":[],"c":[1,{"x":null}]}`: "" +
			`{"b": [], "a": {}, "c": [1, {"x": null}]}`,
		`{"é":"🔑\u007f<\/>\u2028"}`: "" +
			`{"\u00e9": "\ud83d\udd11\u007f</>\u2028"}`,
		`{"a":"\"\\\b\f\n\r\t\u001f"}`: "" +
			`{"a": "\"\\\b\f\n\r\t\u001f"}`,
		`{"a":123456789012345678901234567890,"b":[true,false]}`: "" +
			`{"a": 123456789012345678901234567890, "b": [true, false]}`,
	} {
		c, err := Parse(`{"extra":` + in + `}`)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, _ := c.Extra.Reveal(); got != want {
			t.Errorf("extra of %s = %s, want %s", in, got, want)
		}
	}
}

// It depends on the place of a surrogate: only from keys inside the extra does Airflow
// never have to write one.
func TestLoneSurrogates(t *testing.T) {
	for value, ok := range map[string]bool{
		`{"host":"\ud800"}`:                      false,
		`{"description":"\udc00"}`:               false,
		"mysql://h/\xff":                         false,
		"mysql://h/#\xff":                        true,
		"mysql://h/?a=\xff":                      false,
		"mysql://h/?a=\xff&__extra__=x":          true,
		`{"extra":{"\ud800":1}}`:                 false,
		`{"extra":{"a":{"\ud800":1}}}`:           true,
		`{"extra":{"a":{"b":["\ud800"]}}}`:       false,
		`{"extra":"\"\\ud800\""}`:                false,
		`{"extra":"{\"a\":\"\\ud83d\\udd11\"}"}`: true,
	} {
		c, err := Parse(value)
		if err == nil {
			err = c.Validate()
		}
		if ok != (err == nil) || err != nil && KindOf(err) != Invalid {
			t.Errorf("%q: %v, want it found: %v", value, err, ok)
		}
	}
}

func TestErrorsSayNothingOfTheValue(t *testing.T) {
	const secret = "Hunter2"
	refused := 0
	for _, value := range []string{
		"mysql://u:Hunter2/x@h", "mysql://u:p@h:Hunter2", "a://Hunter2://c://d",
		"a://u:Hunter2@b://h", "mysql://[Hunter2]/", "mysql://[Hunter2/",
		"mysql://u:Hunter2／@h", "mysql://u:Hunter2\xff@h", "mysql://h:99999Hunter2",
		`{"Hunter2":1}`, `{"password":"Hunter2}`, `{"password":["Hunter2"]}`,
		`{"host":["Hunter2"]}`, `{"port":"Hunter2"}`, `{"password":"Hunter2\ud800"}`,
		`{"uri":"mysql://h:Hunter2"}`, `{"uri":"x","host":"Hunter2"}`,
		`{"conn_type":{"Hunter2":1}}`, `{"extra":{"Hunter2":"\ud800"}}`,
	} {
		c, err := Parse(value)
		if err == nil {
			err = c.Validate()
		}
		if err == nil {
			t.Errorf("%q is accepted", value)
			continue
		}
		refused++
		if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(secret)) {
			t.Errorf("the error of %q shows it", value)
		}
	}
	if refused < 19 {
		t.Errorf("%d values were refused, want 19", refused)
	}
}

// reread returns the fields that Airflow reads from a connection's JSON: it loses an empty
// conn_type or extra and port 0, and writes an object as json.dumps does.
func reread(t *testing.T, c *Connection) map[string]any {
	t.Helper()
	want := fields(c)
	if want["conn_type"] == "" {
		want["conn_type"] = nil
	}
	if c.Port != nil && *c.Port == 0 {
		want["port"] = nil
	}
	extra, _ := c.Extra.Reveal()
	if extra == "" {
		want["extra"] = nil
	}
	if isJSONObject(extra) {
		value, err := python.LoadJSON(extra, python.MaxDepth)
		if err != nil {
			t.Fatalf("an extra was accepted and does not load: %v", err)
		}
		want["extra"] = nil
		if python.Truthy(value) {
			want["extra"] = python.DumpJSON(value)
		}
	}
	return want
}

// checkReread fails if the file of a connection is not read as the same connection.
func checkReread(t *testing.T, c *Connection) {
	t.Helper()
	if c.Validate() != nil {
		return
	}
	content, err := c.JSON()
	if err != nil {
		t.Fatalf("a connection that parsed has no file: %v", err)
	}
	back, err := Parse(string(content))
	if err != nil {
		t.Fatalf("the file %q does not parse: %v", content, err)
	}
	if diff := cmp.Diff(reread(t, c), fields(back)); diff != "" {
		t.Errorf("read back from %q (-want +got):\n%s", content, diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, tc := range airflowCases(f, "values.json", 618) {
		if len(tc.Value) < 1000 {
			f.Add(tc.Value)
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		c, err := Parse(value)
		if err != nil {
			if KindOf(err) != Invalid {
				t.Errorf("Parse(%q): %v, want Invalid", value, err)
			}
			return
		}
		checkReread(t, c)
	})
}

func FuzzParseURI(f *testing.F) {
	for _, tc := range airflowCases(f, "uris.json", 80) {
		f.Add(tc.Value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		c, err := ParseURI(value)
		if err != nil {
			if KindOf(err) != Invalid {
				t.Errorf("ParseURI(%q): %v, want Invalid", value, err)
			}
			return
		}
		if c.Host == nil || c.Schema == nil || c.Type == nil {
			t.Errorf("ParseURI(%q) leaves conn_type, host or schema null", value)
		}
		checkReread(t, c)
	})
}

func FuzzParseJSON(f *testing.F) {
	for _, tc := range airflowCases(f, "values.json", 618) {
		if len(tc.Value) < 1000 && strings.HasPrefix(strings.TrimSpace(tc.Value), "{") {
			f.Add(tc.Value)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseJSON(text)
		if err != nil {
			if KindOf(err) != Invalid {
				t.Errorf("ParseJSON(%q): %v, want Invalid", text, err)
			}
			return
		}
		checkReread(t, c)
	})
}
