package aws

import (
	_ "embed"
	"encoding/json"
	"os"
	"testing"

	"github.com/connfs/connfs/conn"
)

// What Python 3.11 says of patterns and ids: testdata/generate_patterns.py.
func TestLookupPatternsMatchAsPythonsDo(t *testing.T) {
	b, err := os.ReadFile("testdata/lookup_patterns.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Pattern string
		Valid   bool
		Matches map[string]bool
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 60 {
		t.Fatalf("%d patterns", len(cases))
	}
	for _, tc := range cases {
		p, err := newLookupPattern(tc.Pattern)
		if (err == nil) != tc.Valid {
			t.Errorf("%q: %v, to Python it is valid: %v", tc.Pattern, err, tc.Valid)
			continue
		}
		for id, want := range tc.Matches {
			err := p.check(id)
			if (err == nil) != want || err != nil && conn.KindOf(err) != conn.Absent {
				t.Errorf("%q on %q: %v, to Python it matches: %v", tc.Pattern, id, err, want)
			}
		}
	}
}

func TestLookupPatternsThatConnfsCannotDoAreErrors(t *testing.T) {
	for _, pattern := range []string{`[\W]`, `a++`, `a{2}+`, `a?+`, `(?L)a`, `(?a:\w)`, `\N{DIGIT ONE}`} {
		if _, err := newLookupPattern(pattern); err == nil {
			t.Errorf("%q: no error", pattern)
		}
	}
}

func TestALookupPatternThatNeverEndsIsAnError(t *testing.T) {
	p, err := newLookupPattern(`(a|aa)+$`)
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	for range 60 {
		id += "a"
	}
	if err := p.check(id + "b"); err == nil || conn.KindOf(err) != conn.Failed {
		t.Errorf("%v, want a failure", err)
	}
}
