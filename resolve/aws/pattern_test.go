package aws

import (
	_ "embed"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
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
	cannotHonour := []string{
		"(?!team_b)team", "(?P<t>te)am_(?P=t)", `(?P<a>t)(e)(?P<b>a).*\2`, "team_(?=a)",
		`\bteam`, `.*\bx`, `.*\Bx`, "a{,2}$", `[\b]`, "(?x) te am # comment", `(?a)\w+$`,
		`(?ai)\w+$`, "(?-i:team)", "(?#comment)team", "(?<=t)e", "t(?<=t)e", ".(?<!x)e",
		"(?>te)am", "(t)?(?(1)eam|x)", `\x74eam`, `\u0074eam`, `\U00000074eam`, `\164eam`,
		`(t)\1`, `\r`, `\t`, `\x1c`, "(?=.*x)team",
	}
	var refused []string
	for _, tc := range cases {
		p, err := newLookupPattern(tc.Pattern)
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), "connfs cannot honour this: "):
			t.Errorf("%q: %v", tc.Pattern, err)
		case err == nil && !tc.Valid:
			t.Errorf("%q: taken, and Python refuses it", tc.Pattern)
		case err != nil && tc.Valid:
			refused = append(refused, tc.Pattern)
		case err != nil:
			continue
		}
		for id, want := range tc.Matches {
			if err != nil || backend.CheckPathID(id) != nil {
				continue // no id with a line break comes as far as the pattern
			}
			err := p.check(id)
			if (err == nil) != want || err != nil && conn.KindOf(err) != conn.Absent {
				t.Errorf("%q on %q: %v, to Python it matches: %v", tc.Pattern, id, err, want)
			}
		}
	}
	if diff := cmp.Diff(cannotHonour, refused); diff != "" {
		t.Errorf("patterns that connfs cannot honour (-want +got):\n%s", diff)
	}
}

func TestLookupPatternsThatConnfsCannotHonourAreNamed(t *testing.T) {
	for pattern, name := range map[string]string{
		`a(?=b)`: "look-ahead (?=", `(?!b)`: "look-ahead (?!",
		`(?<=a)b`: "look-behind (?<=", `(?<!a)b`: "look-behind (?<!",
		`(?P<a>x)(?P=a)`: "backreference or octal number (?P=",
		`(x)\1`:          `backreference or octal number \1`,
		`(x)?(?(1)y)`:    "this kind of group, comment or flag (?(",
		`(?>x)`:          "this kind of group, comment or flag (?>",
		`(?#x)`:          "this kind of group, comment or flag (?#",
		`(?-i:x)`:        "this kind of group, comment or flag (?-",
		`x(?i)`:          "this kind of group, comment or flag (?i",
		`(?L)a`:          "this kind of group, comment or flag (?L",
		`a++`:            "possessive quantifier ++",
		`a{2}+`:          "possessive quantifier {2}+",
		`a?+`:            "possessive quantifier ?+",
		`a{,2}`:          "quantifier without its first number, or with a 0 before it {,",
		`a{02}`:          "quantifier without its first number, or with a 0 before it {02",
		`a{1001}`:        "invalid repeat count",
		`^*`:             "quantifier after an anchor ^*",
		`\bx`:            `escape \b`,
		`x\B`:            `escape \B`,
		`\N{DIGIT ONE}`:  `escape \N`,
		`\u0131`:         `escape \u`,
		`[\W]`:           `escape in a set \W`,
		`[^\S]`:          `escape in a set \S`,
		`[a-é]`:          "range of characters beyond ASCII a-é",
		`[а-я]`:          "range of characters beyond ASCII а-я",
		`[\w-z]`:         `range that ends in a class or an escape \w-z`,
		`[ı]`:            "a letter whose case Python knows otherwise",
	} {
		_, err := newLookupPattern(pattern)
		if want := "connfs cannot honour this: " + name; err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
}

// Python refuses these as well.
func TestWhatIsNoPatternIsAnError(t *testing.T) {
	for _, pattern := range []string{
		`$+`, `\A?`, `\Z{2}`, `)(`, `[a-\d]`, `[z-a]`, `a{2,1}`, `|*`, `(?i`, `\x4`, `\e`, `[]`,
		`[^]`, `[`, `\`, `(`, `x)`,
	} {
		if _, err := newLookupPattern(pattern); err == nil {
			t.Errorf("%q: no error", pattern)
		}
	}
}

func TestALookupPatternThatPythonWouldNotEndIsAnswered(t *testing.T) {
	p, err := newLookupPattern(`(a|aa)+$`)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.check(strings.Repeat("a", 60) + "b"); conn.KindOf(err) != conn.Absent {
		t.Errorf("%v, want absent", err)
	}
}
