package python_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/python"
)

var limits = python.JSONLimits{Depth: 512}

func TestJSONTextsAreDecoded(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{`plain`, "plain"},
		{`\u0061\u00E9`, "aé"},
		{`\"\\\/\b\f\n\r\t`, "\"\\/\b\f\n\r\t"},
		{`\ud83d\ude00!`, "😀!"},
		{`a\ud800`, "a\xed\xa0\x80"},
		{`\ude00a`, "\xed\xb8\x80a"},
		{`\ud83d\u0061`, "\xed\xa0\xbda"},
		{`\ud83d\ud83d\ude00`, "\xed\xa0\xbd😀"},
		{`\ufffd`, "\ufffd"},
	} {
		if got := python.JSONText([]byte(c.raw)); got != c.want {
			t.Errorf("%s: %q, want %q", c.raw, got, c.want)
		}
	}
}

func TestKeysAreComparedExactly(t *testing.T) {
	x, err := python.IndexJSON([]byte(`{"KEY":1,"\u006bey":2,"other":{"key":3}}`), limits)
	if err != nil {
		t.Fatal(err)
	}
	if v, several := x.Get(0, "key"); string(x.Raw(v)) != "2" || several {
		t.Errorf("got %s, several %v", x.Raw(v), several)
	}
	number, _ := x.Get(0, "KEY")
	for _, c := range []struct {
		in  python.JSONValue
		key string
	}{{0, "Key"}, {python.NoValue, "key"}, {number, "key"}} {
		if v, _ := x.Get(c.in, c.key); v != python.NoValue {
			t.Errorf("found the key %s in value %d", c.key, c.in)
		}
	}
	twice, err := python.IndexJSON([]byte(`{"key":1,"\u006bey":2}`), limits)
	if err != nil {
		t.Fatal(err)
	}
	if v, several := twice.Get(0, "key"); !several || string(twice.Raw(v)) != "2" {
		t.Errorf("two spellings of one key: %s, several %v", twice.Raw(v), several)
	}
}

func TestLimitsOfIndexJSON(t *testing.T) {
	for _, c := range []struct {
		text   string
		limits python.JSONLimits
		want   error
	}{
		{`[[1]]`, python.JSONLimits{Depth: 2}, nil},
		{`[[1]]`, python.JSONLimits{Depth: 1}, python.ErrDepth},
		{`{"a":[1]}`, python.JSONLimits{Depth: 1}, python.ErrDepth},
		{`{"a":1}`, python.JSONLimits{Depth: 1, Values: 3}, nil},
		{`{"a":1}`, python.JSONLimits{Depth: 1, Values: 2}, python.ErrSize},
		{`-123`, python.JSONLimits{Digits: 3}, nil},
		{`-1234`, python.JSONLimits{Digits: 3}, python.ErrDigits},
		{`1234.5e1234`, python.JSONLimits{Digits: 3}, nil},
		{`1234.`, python.JSONLimits{Digits: 3}, python.ErrDigits},
		{`1234e+`, python.JSONLimits{Digits: 3}, python.ErrDigits},
		{`123.`, python.JSONLimits{Digits: 3}, python.ErrSyntax},
		{`1234.5e`, python.JSONLimits{Digits: 3}, python.ErrSyntax},
		{`[1234 x`, python.JSONLimits{Depth: 1, Digits: 3}, python.ErrDigits},
		{`[x 1234`, python.JSONLimits{Depth: 1, Digits: 3}, python.ErrSyntax},
		{`1234`, python.JSONLimits{}, nil},
	} {
		if _, err := python.IndexJSON([]byte(c.text), c.limits); !errors.Is(err, c.want) {
			t.Errorf("%s within %+v: %v, want %v", c.text, c.limits, err, c.want)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e3,"\u00e9\ud800",null,true]}`, `[NaN]`, `{"a":1,"a":2}`, "\"\xff\"", `[1,]`,
		`01`, `1.`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := python.IndexJSON(text, limits)
		value, loadErr := python.LoadJSON(string(text), limits.Depth)
		if (loadErr == nil) != (err == nil) && !errors.Is(loadErr, python.ErrDigits) {
			t.Fatalf("indexed with %v, loaded with %v", err, loadErr)
		}
		if loadErr == nil {
			// What Python writes, it reads as the same.
			dump := python.DumpJSON(value)
			again, err := python.LoadJSON(dump, limits.Depth)
			if err != nil || python.DumpJSON(again) != dump {
				t.Fatalf("%q is dumped as %q, and that is read with %v", text, dump, err)
			}
		}
		if bytes.Contains(text, []byte("NaN")) || bytes.Contains(text, []byte("Infinity")) {
			return // words that encoding/json does not know
		}
		if err != nil {
			if !errors.Is(err, python.ErrDepth) && json.Valid(text) {
				t.Fatalf("refused, though it is JSON: %v", err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatal("taken, though it is not JSON")
		}
		if x.Kind(0) != python.KindText {
			return
		}
		if got := python.JSONText(x.Raw(0)); utf8.ValidString(got) {
			var want string
			if err := json.Unmarshal(text, &want); err != nil || want != got {
				t.Fatalf("decoded as %q, want %q (%v)", got, want, err)
			}
		}
	})
}

// BenchmarkIndexJSON reads a text of the size of a large DAG.
func BenchmarkIndexJSON(b *testing.B) {
	text := []byte(largeText())
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := python.IndexJSON(text, limits); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoadJSON makes the Python values of the same text.
func BenchmarkLoadJSON(b *testing.B) {
	text := largeText()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := python.LoadJSON(text, limits.Depth); err != nil {
			b.Fatal(err)
		}
	}
}

func largeText() string {
	var b strings.Builder
	b.WriteString(`{"__version":1,"dag":{"_dag_id":"d","tasks":[`)
	for i := range 5000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"__type": "operator", "__var": {"task_id": "task_%d", `+
			`"retries": %d, "retry_delay": 300.0, "ui_color": "#e8f7e4", `+
			`"template_fields": ["bash_command", "env"], `+
			`"bash_command": "echo \"{{ conn.db_%d.host }}\"", `+
			`"depends_on_past": false, "pool": null}}`, i, i%5, i)
	}
	b.WriteString(`]}}`)
	return b.String()
}
