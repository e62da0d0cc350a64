package aws

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dlclark/regexp2/v2"

	"github.com/connfs/connfs/conn"
)

// matchTime bounds one match: patterns that backtrack can take for ever.
const matchTime = time.Second

// lookupPattern is a connections_lookup_pattern: ids that it does not match are not
// looked up. It is Python's re.match, at the start of the id, ignoring case.
type lookupPattern struct{ re *regexp2.Regexp } // nil: every id

// newLookupPattern returns the pattern; an empty one matches every id, as in Airflow.
// Its error says what Python's re or connfs does not know.
func newLookupPattern(pattern string) (lookupPattern, error) {
	if pattern == "" {
		return lookupPattern{}, nil
	}
	translated, options, err := fromPython(pattern)
	if err != nil {
		return lookupPattern{}, err
	}
	re, err := regexp2.Compile(translated, options|regexp2.IgnoreCase, regexp2.OptionMaintainCaptureOrder())
	if err != nil {
		return lookupPattern{}, errors.New("not a regular expression of Python's that connfs can use")
	}
	re.MatchTimeout = matchTime
	return lookupPattern{re}, nil
}

// check returns nil for an id that the pattern matches, and else the answer for it.
func (p lookupPattern) check(id string) error {
	if p.re == nil {
		return nil
	}
	ok, err := p.re.MatchString(id)
	switch {
	case err != nil:
		return conn.Errorf(conn.Failed, "", "the lookup pattern takes too long on this id")
	case !ok:
		return conn.Errorf(conn.Absent, "", "the lookup pattern does not match the id, so the backend was not asked")
	}
	return nil
}

// Classes of characters of Python's re, which are not those of .NET and regexp2.
const (
	pyWord  = `\p{L}\p{N}_`
	pySpace = `\t-\r\x1c- \x85\p{Z}`
	pyDigit = `\p{Nd}`

	asciiWord  = `a-zA-Z0-9_`
	asciiSpace = `\t-\r `
	asciiDigit = `0-9`
)

// fromPython writes a pattern of Python's re in the language of regexp2, which is
// .NET's, anchored at the start.
func fromPython(pattern string) (string, regexp2.RegexOptions, error) {
	t := translation{rest: []rune(pattern), word: pyWord, space: pySpace, digit: pyDigit}
	if err := t.flags(); err != nil {
		return "", 0, err
	}
	for len(t.rest) > 0 {
		if err := t.step(); err != nil {
			return "", 0, err
		}
	}
	end := ")"
	if t.options&regexp2.IgnorePatternWhitespace != 0 {
		end = "\n)" // the pattern may end in a comment
	}
	return `\A(?:` + t.out.String() + end, t.options, nil
}

type translation struct {
	rest    []rune
	out     strings.Builder
	options regexp2.RegexOptions

	word, space, digit string
	quantified         bool // the last element was a quantifier
}

// next takes the prefix of the rest if it is there.
func (t *translation) next(prefix string) bool {
	p := []rune(prefix)
	if len(t.rest) < len(p) || string(t.rest[:len(p)]) != prefix {
		return false
	}
	t.rest = t.rest[len(p):]
	return true
}

// flags takes the flags at the start: (?aims).
func (t *translation) flags() error {
	for len(t.rest) > 2 && t.rest[0] == '(' && t.rest[1] == '?' {
		end := 2
		for end < len(t.rest) && strings.ContainsRune("aiLmsux", t.rest[end]) {
			end++
		}
		if end == 2 || end == len(t.rest) || t.rest[end] != ')' {
			return nil
		}
		for _, flag := range t.rest[2:end] {
			switch flag {
			case 'a':
				t.word, t.space, t.digit = asciiWord, asciiSpace, asciiDigit
			case 'L':
				return errors.New("the flag L is for bytes, and ids are text")
			case 'm':
				t.options |= regexp2.Multiline
			case 's':
				t.options |= regexp2.Singleline
			case 'x':
				t.options |= regexp2.IgnorePatternWhitespace
			}
		}
		t.rest = t.rest[end+1:]
	}
	return nil
}

// step translates one element.
func (t *translation) step() error {
	switch {
	case t.next(`\`):
		return t.escape(false)
	case t.next("["):
		return t.class()
	case t.next("(?P<"):
		t.out.WriteString("(?<")
	case t.next("(?P="):
		name := t.until(')')
		t.out.WriteString(`(?:\k<` + name + ">)")
	case t.next("(?#"):
		t.until(')')
	case len(t.rest) > 2 && t.rest[0] == '(' && t.rest[1] == '?':
		return t.group()
	case t.next("{,"):
		t.out.WriteString("{0,")
	case t.rest[0] == '+' && t.quantified:
		return errors.New("connfs cannot do possessive quantifiers")
	default:
		t.quantified = strings.ContainsRune("*+?}", t.rest[0])
		t.out.WriteRune(t.rest[0])
		t.rest = t.rest[1:]
	}
	return nil
}

// group takes the beginning of a group of another kind.
func (t *translation) group() error {
	for _, same := range []string{"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?("} {
		if t.next(same) {
			t.out.WriteString(same)
			return nil
		}
	}
	begin := t.until(':')
	if strings.Trim(begin, "(?ims-") != "" || len(t.rest) == 0 {
		return errors.New("a group that begins so is nothing that connfs can do, or is not Python's")
	}
	t.out.WriteString(begin + ":")
	return nil
}

func (t *translation) until(end rune) string {
	var taken []rune
	for len(t.rest) > 0 && t.rest[0] != end {
		taken, t.rest = append(taken, t.rest[0]), t.rest[1:]
	}
	if len(t.rest) > 0 {
		t.rest = t.rest[1:]
	}
	return string(taken)
}

// escape translates what follows a backslash.
func (t *translation) escape(inClass bool) error {
	if len(t.rest) == 0 {
		return errors.New("it ends in a backslash")
	}
	c := t.rest[0]
	t.rest = t.rest[1:]
	set := func(members string, negated bool) {
		switch {
		case inClass && !negated:
			t.out.WriteString(members)
		case negated:
			t.out.WriteString("[^" + members + "]")
		default:
			t.out.WriteString("[" + members + "]")
		}
	}
	switch {
	case c == 'w', c == 's', c == 'd':
		set(map[rune]string{'w': t.word, 's': t.space, 'd': t.digit}[c], false)
	case inClass && (c == 'W' || c == 'S' || c == 'D'):
		return fmt.Errorf(`connfs cannot do \%c inside of [ ]`, c)
	case c == 'W', c == 'S', c == 'D':
		set(map[rune]string{'W': t.word, 'S': t.space, 'D': t.digit}[c], true)
	case c == 'b' && !inClass:
		fmt.Fprintf(&t.out, `(?:(?<=[%[1]s])(?![%[1]s])|(?<![%[1]s])(?=[%[1]s]))`, t.word)
	case c == 'B' && !inClass:
		fmt.Fprintf(&t.out, `(?:(?<=[%[1]s])(?=[%[1]s])|(?<![%[1]s])(?![%[1]s]))`, t.word)
	case c == 'Z' && !inClass:
		t.out.WriteString(`\z`)
	case c == 'U':
		if len(t.rest) < 8 {
			return errors.New(`\U needs eight digits`)
		}
		n, err := strconv.ParseUint(string(t.rest[:8]), 16, 21)
		if err != nil {
			return errors.New(`\U needs eight digits`)
		}
		t.rest = t.rest[8:]
		t.out.WriteString(regexp2.Escape(string(rune(n))))
	case c >= 'a' && c <= 'z' && !strings.ContainsRune("abfnrtvxu", c), c >= 'A' && c <= 'Z' && (c != 'A' || inClass):
		return fmt.Errorf(`\%c is nothing to Python's re here`, c)
	case c == '_' || c > unicode.MaxASCII:
		t.out.WriteRune(c) // .NET knows no such escape
	default:
		t.out.WriteRune('\\')
		t.out.WriteRune(c)
	}
	t.quantified = false
	return nil
}

// class translates a set in [ ], of which the bracket has been taken.
func (t *translation) class() error {
	t.quantified = false
	t.out.WriteByte('[')
	if t.next("^") {
		t.out.WriteByte('^')
	}
	for first := true; ; first = false {
		switch {
		case len(t.rest) == 0:
			return errors.New("a [ has no ]")
		case t.next("]"):
			if !first {
				t.out.WriteByte(']')
				return nil
			}
			t.out.WriteString(`\]`)
		case t.next("["):
			t.out.WriteString(`\[`)
		case t.next(`\`):
			if err := t.escape(true); err != nil {
				return err
			}
		default:
			t.out.WriteRune(t.rest[0])
			t.rest = t.rest[1:]
		}
	}
}
