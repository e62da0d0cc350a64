package python

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// pythonChar is a line of case.txt.
type pythonChar struct {
	upper, lower string
	digit        rune // -1: none
}

// pythonChars reads case.txt, which leaves out every character that is its own
// upper and lower case and no digit.
func pythonChars(t *testing.T) map[rune]pythonChar {
	t.Helper()
	f, err := os.Open("testdata/case.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hex := func(s string) rune {
		n, err := strconv.ParseInt(s, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		return rune(n)
	}
	text := func(column string, same rune) string {
		if column == "=" {
			return string(same)
		}
		var b strings.Builder
		for part := range strings.SplitSeq(column, "+") {
			b.WriteRune(hex(part))
		}
		return b.String()
	}
	chars := make(map[rune]pythonChar)
	lines := bufio.NewScanner(f)
	lines.Scan() // the version of Unicode
	for lines.Scan() {
		col := strings.Fields(lines.Text())
		r := hex(col[0])
		digit := rune(-1)
		if col[3] != "-" {
			digit = hex(col[3])
		}
		chars[r] = pythonChar{text(col[1], r), text(col[2], r), digit}
	}
	if lines.Err() != nil || len(chars) != 3597 {
		t.Fatalf("case.txt holds %d characters, want 3597: %v", len(chars), lines.Err())
	}
	return chars
}

func TestCaseAndDigitsOfEveryCharacterArePythons(t *testing.T) {
	chars := pythonChars(t)
	var others strings.Builder // what case does not change, apart from each other
	for r := rune(0x80); r <= utf8.MaxRune; r++ {
		want, ok := chars[r]
		if !ok {
			want = pythonChar{digit: -1}
			others.WriteRune(r)
			others.WriteByte(' ')
		} else {
			if got := Upper(string(r)); got != want.upper {
				t.Errorf("upper of %U = %q, want %q", r, got, want.upper)
			}
			if got := Lower(string(r)); got != want.lower {
				t.Errorf("lower of %U = %q, want %q", r, got, want.lower)
			}
		}
		if want.digit < 0 && !unicode.Is(unicode.Nd, r) {
			continue
		}
		if d, ok := digitValue(r); !ok || d != want.digit {
			t.Errorf("digit of %U = %d, %v, want %d", r, d, ok, want.digit)
		}
	}
	if Upper(others.String()) != others.String() || Lower(others.String()) != others.String() {
		t.Error("upper or lower changes a character that Python leaves alone")
	}
}

func TestSplitLines(t *testing.T) {
	for text, want := range map[string][]string{
		"":                nil,
		"\n":              {""},
		"a":               {"a"},
		"a\n":             {"a"},
		"a\n\nb\n\n":      {"a", "", "b", ""},
		"a\r\nb\rc\n\rd":  {"a", "b", "c", "", "d"},
		"a\vb\fc\x1cd":    {"a", "b", "c", "d"},
		"a\x1db\x1ec\x1f": {"a", "b", "c\x1f"},
		"a\u0085b\u2028c": {"a", "b", "c"},
		"a\u2029b":        {"a", "b"},
	} {
		if diff := cmp.Diff(want, SplitLines(text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
