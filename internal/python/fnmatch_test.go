package python_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/connfs/connfs/internal/python"
)

// The cases were answered by Python's fnmatch.fnmatchcase.
func TestFnmatchAgreesWithPython(t *testing.T) {
	raw, err := os.ReadFile("testdata/fnmatch.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases [][3]any
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 1000 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		if got := python.Fnmatch(c[0].(string), c[1].(string)); got != c[2].(bool) {
			t.Errorf("Fnmatch(%q, %q) = %v, Python says %v", c[0], c[1], got, c[2])
		}
	}
}

func TestFnmatchIsLinearInTheStars(t *testing.T) {
	pattern, id := "", ""
	for range 200 {
		pattern += "*a"
		id += "aaaaaaaaaaaaaaa"
	}
	if python.Fnmatch(pattern+"b", id) {
		t.Error("matched")
	}
}

func TestFnmatchTakesInvalidUTF8ByteForByte(t *testing.T) {
	for _, c := range []struct {
		pattern, id string
		want        bool
	}{
		{"a\xff", "a\xff", true},
		{"a\xff", "a\xfe", false},
		{"a\ufffd", "a\xff", false},
		{"a[\ufffd]", "a\xff", false},
		{"a?", "a\xff", true},
		{"*", "\xff\xfe", true},
	} {
		if got := python.Fnmatch(c.pattern, c.id); got != c.want {
			t.Errorf("Fnmatch(%q, %q) = %v, want %v", c.pattern, c.id, got, c.want)
		}
	}
}
