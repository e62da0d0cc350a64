package dags

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		{
			"too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
			reasonTooDeep,
		},
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

func TestATextThatUTF8CannotHoldIsNone(t *testing.T) {
	doc, err := parseJSON([]byte(`["\ud83d\ude00", "a\ud800", 1]`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for item := range doc.Items(0) {
		if text, ok := doc.string(item); ok {
			got = append(got, text)
		}
	}
	if diff := cmp.Diff([]string{"😀"}, got); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}

func TestDuplicateKeysAreNoticed(t *testing.T) {
	doc, err := parseJSON([]byte(`{"key":1,"\u006bey":2,"KEY":3}`))
	if err != nil {
		t.Fatal(err)
	}
	if doc.get(0, "KEY"); doc.duplicate {
		t.Error("a duplicate is told of a key that stands once")
	}
	if doc.get(0, "key"); !doc.duplicate {
		t.Error("the same key in two spellings is not told")
	}
}
