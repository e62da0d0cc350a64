package aws

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
)

// lookupPattern is a connections_lookup_pattern: ids that it does not match are not
// looked up. It is Python's re.match, at the start of the id, ignoring case.
type lookupPattern struct{ re *regexp.Regexp } // nil: every id

// newLookupPattern returns the pattern; an empty one matches every id, as in Airflow.
// Go's regexp does the work. A pattern that has no such meaning there as in Python is an
// error, which names the construct.
func newLookupPattern(pattern string) (lookupPattern, error) {
	if pattern == "" {
		return lookupPattern{}, nil
	}
	if pythonFold.Replace(pattern) != pattern {
		return lookupPattern{}, cannotHonour("a letter whose case Python knows otherwise")
	}
	text, err := translate(leadingFlags().ReplaceAllString(pattern, ""))
	if err != nil {
		return lookupPattern{}, err
	}
	re, err := regexp.Compile("(?i)" + text)
	var cause *syntax.Error
	if errors.As(err, &cause) {
		return lookupPattern{}, cannotHonour(string(cause.Code))
	}
	return lookupPattern{re}, err
}

// check returns nil for an id that the pattern matches, and else the answer for it.
func (p lookupPattern) check(id string) error {
	if p.re == nil {
		return nil
	}
	// The leftmost match begins at the start if any does.
	if at := p.re.FindStringIndex(pythonFold.Replace(id)); at != nil && at[0] == 0 {
		return nil
	}
	return conn.Errorf(conn.Absent, "",
		"the lookup pattern does not match the id, so the backend was not asked")
}

func cannotHonour(construct string) error {
	return errors.New("connfs cannot honour this: " + construct)
}

// pythonFold replaces the letters that are equal to another one, ignoring case, to Python
// and not to Go. There are no more than these (Python 3.11, Go 1.26).
var pythonFold = strings.NewReplacer(
	"\u0130", "i", "\u0131", "i", "\u1fd3", "\u0390", "\u1fe3", "\u03b0", "\ufb06", "\ufb05")

// leadingFlags change nothing: case is ignored anyway, and the ids that are asked for hold
// no line break ([backend.CheckPathID]).
var leadingFlags = part(`(?:\(\?[imsu]+\))+`)

// rule says what becomes of a part of a pattern.
type rule struct {
	part   func() *regexp.Regexp
	refuse string                   // what connfs cannot honour; empty: it can
	write  func(part string) string // in the language of Go's regexp
}

// char is a character that stands for itself.
const char = `(?:\\[^A-Za-z0-9]|[^\\])`

// outside are the rules outside of sets; of those that fit the first counts.
var outside = []rule{
	{part(`\(\?(?::|i:|P<[A-Za-z_][A-Za-z0-9_]*>)`), "", same},
	{part(`\(\?[=!]`), "look-ahead", nil},
	{part(`\(\?<[=!]`), "look-behind", nil},
	{part(`\(\?P=|\\[0-9]`), "backreference or octal number", nil},
	{part(`\(\?.?`), "this kind of group, comment or flag", nil},
	{part(`(?:[*+?]|\{[0-9,]+\})\+`), "possessive quantifier", nil},
	{part(`\{(?:,|0[0-9])`), "quantifier without its first number, or with a 0 before it", nil},
	{part(`(?:[\^$]|\\[AZ])[*+?{]`), "quantifier after an anchor", nil},
	{part(`[()|.^*+?]|\\A|\{[0-9]+(?:,[0-9]*)?\}`), "", same},
	{part(`\$|\\Z`), "", func(string) string { return `\z` }},
	{part(`\\[wsd]`), "", func(p string) string { return "[" + classes[p] + "]" }},
	{part(`\\[WSD]`), "", func(p string) string {
		return "[^" + classes[strings.ToLower(p)] + "]"
	}},
	{part(`\\[A-Za-z]`), "escape", nil},
	{part(`[^\\[]|\\[^A-Za-z0-9]`), "", literal},
}

// set is a set in [ ]: the beginning, and what is in it.
var set = part(`(\[\^?)(\]?(?:[^]\\]|\\.)*)\]`)

// within are the rules within a set.
var within = []rule{
	{part(`\\[wsd]-.|` + char + `-\\[A-Za-z0-9]`), "range that ends in a class or an escape", nil},
	{part(`[^[:ascii:]]-.|` + char + `-[^[:ascii:]]`), "range of characters beyond ASCII", nil},
	{part(`\\[wsd]`), "", func(p string) string { return classes[p] }},
	{part(`\\[A-Za-z0-9]`), "escape in a set", nil},
	{part(char + `-` + char), "", func(p string) string {
		dash := 1 + strings.LastIndex(p[:1], `\`) + 1
		return literal(p[:dash]) + "-" + literal(p[dash+1:])
	}},
	{part(char), "", literal},
}

// part returns an expression of what stands at the start of the rest of a pattern. It is
// compiled at its first use: most children have no pattern.
func part(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?s:` + expression + `)`)
	})
}

func same(part string) string { return part }

// literal writes a character that stands for itself, which may have a backslash before it.
func literal(part string) string {
	r, _ := utf8.DecodeLastRuneInString(part)
	return fmt.Sprintf(`\x{%x}`, r)
}

// translate writes a pattern in the language of Go's regexp.
func translate(rest string) (string, error) {
	var out strings.Builder
	for rest != "" {
		m := set().FindStringSubmatch(rest)
		if m == nil {
			var err error
			if rest, err = next(&out, outside, rest); err != nil {
				return "", err
			}
			continue
		}
		out.WriteString(m[1])
		for members := m[2]; members != ""; {
			var err error
			if members, err = next(&out, within, members); err != nil {
				return "", err
			}
		}
		out.WriteByte(']')
		rest = rest[len(m[0]):]
	}
	return out.String(), nil
}

// next writes the first part of the rest, and returns what is left.
func next(out *strings.Builder, rules []rule, rest string) (string, error) {
	for _, r := range rules {
		p := r.part().FindString(rest)
		switch {
		case p == "":
			continue
		case r.refuse != "":
			return "", cannotHonour(r.refuse + " " + p)
		}
		out.WriteString(r.write(p))
		return rest[len(p):], nil
	}
	return "", cannotHonour("a [ or a backslash that nothing ends")
}

// classes are the members of Python's classes of characters, which are Unicode's; those
// of Go's regexp are ASCII's.
var classes = map[string]string{
	`\w`: `\p{L}\p{N}_`,
	`\s`: `\t-\r\x1c- \x{85}\p{Z}`,
	`\d`: `\p{Nd}`,
}
