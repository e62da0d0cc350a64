package dags

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONIsReadAsPythonReadsIt(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", reasonNotJSON},
		{"blanks", " \t\r\n", reasonNotJSON},
		{"other blanks", "\u00a0{}", reasonNotJSON},
		{"byte order mark", "\ufeff{}", reasonNotJSON},
		{"words", `[true,false,null,NaN,Infinity,-Infinity]`, ""},
		{"other words", `nan`, reasonNotJSON},
		{"minus NaN", `-NaN`, reasonNotJSON},
		{"half a word", `Infin`, reasonNotJSON},
		{"words that go on", `nulls`, reasonTrailing},
		{"numbers", `[0,-0,1.5,-1.5e+10,0e0,2E-3,123456789012345678901234567890]`, ""},
		{"leading zero", `01`, reasonTrailing},
		{"plus", `+1`, reasonNotJSON},
		{"point without digits", `1.`, reasonNotJSON},
		{"exponent without digits", `1e`, reasonNotJSON},
		{"minus alone", `-`, reasonNotJSON},
		{"hexadecimal", `0x10`, reasonTrailing},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`, ""},
		{"unknown escape", `"\x41"`, reasonNotJSON},
		{"short escape", `"\u00e"`, reasonNotJSON},
		{"sign in an escape", `"\u+123"`, reasonNotJSON},
		{"raw newline", "\"a\nb\"", reasonNotJSON},
		{"raw DEL", "\"a\x7fb\"", ""},
		{"open text", `"abc`, reasonNotJSON},
		{"open escape", `"abc\`, reasonNotJSON},
		{"comma at the end", `[1,]`, reasonNotJSON},
		{"comma at the beginning", `[,1]`, reasonNotJSON},
		{"comma at the end of an object", `{"a":1,}`, reasonNotJSON},
		{"no comma", `[1 2]`, reasonNotJSON},
		{"no colon", `{"a" 1}`, reasonNotJSON},
		{"key without quotes", `{a:1}`, reasonNotJSON},
		{"wrong end", `[1}`, reasonNotJSON},
		{"no end", `[[1]`, reasonNotJSON},
		{"comment", `[1] // one`, reasonTrailing},
		{"two documents", `{} {}`, reasonTrailing},
		{"invalid UTF-8 in a text", "\"\xff\"", reasonNotUTF8},
		{"invalid UTF-8 outside", "[\xff]", reasonNotJSON},
		{"deepest", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), ""},
		{"too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), reasonTooDeep},
		{"too deep and open", strings.Repeat(`{"a":`, maxDepth+1), reasonTooDeep},
		{"too many values", "[" + strings.Repeat("0,", maxValues) + "0]", reasonTooLarge},
		{"too many bytes", `"` + strings.Repeat("a", maxDocument) + `"`, reasonTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if _, err := parseJSON([]byte(c.text)); err != nil {
				got = reasonOf(err)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTextsAreDecoded(t *testing.T) {
	for _, c := range []struct {
		text, want string
		whole      bool
	}{
		{`plain`, "plain", true},
		{`\u0061\u00E9`, "aé", true},
		{`\"\\\/\b\f\n\r\t`, "\"\\/\b\f\n\r\t", true},
		{`\ud83d\ude00!`, "😀!", true},
		{`a\ud800`, "a\ufffd", false},
		{`\ude00a`, "\ufffda", false},
		{`\ud83d\u0061`, "\ufffda", false},
		{`\ud83d\ud83d\ude00`, "\ufffd😀", false},
		{`\ufffd`, "\ufffd", true},
	} {
		if got, whole := unescape([]byte(c.text)); got != c.want || whole != c.whole {
			t.Errorf("%s: %q, %v; want %q, %v", c.text, got, whole, c.want, c.whole)
		}
	}
}

func TestKeysAreComparedExactly(t *testing.T) {
	doc, err := parseJSON([]byte(`{"KEY":1,"\u006bey":2,"other":{"key":3}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(doc.raw(doc.get(0, "key"))); got != "2" || doc.duplicate {
		t.Errorf("got %s, duplicate %v", got, doc.duplicate)
	}
	if doc.get(0, "Key") != none || doc.get(none, "key") != none || doc.get(doc.get(0, "KEY"), "key") != none {
		t.Error("found a key that is not there")
	}
	twice, err := parseJSON([]byte(`{"key":1,"\u006bey":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if twice.get(0, "key"); !twice.duplicate {
		t.Error("the same key in two spellings is not told")
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,"\u00e9\ud800",null,true]}`, `[NaN]`, `{"a":1,"a":2}`, "\"\xff\"", `[1,]`, `01`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := parseJSON(text)
		if bytes.Contains(text, []byte("NaN")) || bytes.Contains(text, []byte("Infinity")) {
			return // words that encoding/json does not know
		}
		if err != nil {
			if reasonOf(err) != reasonTooDeep && json.Valid(text) && utf8.Valid(text) {
				t.Fatalf("refused, though it is JSON: %v", err)
			}
			return
		}
		if !json.Valid(text) || !utf8.Valid(text) {
			t.Fatal("taken, though it is no JSON")
		}
		var s string
		if got, whole := doc.string(0); doc.kind(0) == kindText && whole {
			if err := json.Unmarshal(text, &s); err != nil || s != got {
				t.Fatalf("decoded as %q, want %q (%v)", got, s, err)
			}
		}
	})
}
