package python

import (
	"strings"
	"unicode/utf8"
)

// Fnmatch is Python's fnmatch.fnmatchcase(name, pattern): `*` is any text, `/`
// included; `?` is one character; `[abc]`, `[a-z]` and `[!abc]` are one of a set, or
// none of it; a `[` that nothing closes stands for itself; there is no escape character.
func Fnmatch(pattern, name string) bool {
	// The position after the last `*`, and where in name its text ends so far. This is
	// the only place worth going back to: what an earlier star could take, a later one
	// can take too.
	star, from := -1, 0
	p, s := 0, 0
	for s < len(name) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p+1, s
				p++
				continue
			}
			if np, ns, ok := matchOne(pattern, p, name, s); ok {
				p, s = np, ns
				continue
			}
		}
		if star < 0 {
			return false
		}
		_, n := utf8.DecodeRuneInString(name[from:])
		from += n
		p, s = star, from
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one character of name, at s, against the pattern's element at p,
// which is not a star. It returns where to go on in both.
func matchOne(pattern string, p int, name string, s int) (int, int, bool) {
	r, n := utf8.DecodeRuneInString(name[s:])
	switch pattern[p] {
	case '?':
		return p + 1, s + n, true
	case '[':
		if end := classEnd(pattern, p); end >= 0 {
			return end + 1, s + n, inClass(pattern[p+1:end], name[s:s+n], r)
		}
	}
	pr, pn := utf8.DecodeRuneInString(pattern[p:])
	ok := pr == r && pattern[p:p+pn] == name[s:s+n]
	return p + pn, s + n, ok
}

// classEnd returns where the set that begins at p ends, or -1. A `]` at its
// beginning, or right after `!`, belongs to the set.
func classEnd(pattern string, p int) int {
	i := p + 1
	if i < len(pattern) && pattern[i] == '!' {
		i++
	}
	if i < len(pattern) && pattern[i] == ']' {
		i++
	}
	if i > len(pattern) {
		return -1
	}
	if j := strings.IndexByte(pattern[i:], ']'); j >= 0 {
		return i + j
	}
	return -1
}

// inClass reports whether the character r, whose bytes are char, is in the set, which
// may begin with `!`. An empty range such as `z-a` holds nothing.
func inClass(set, char string, r rune) bool {
	negated := strings.HasPrefix(set, "!")
	if negated {
		set = set[1:]
	}
	if r == utf8.RuneError && len(char) == 1 {
		// A byte that is not UTF-8 equals no character of a pattern.
		return negated
	}
	found := false
	for set != "" {
		lo, n := utf8.DecodeRuneInString(set)
		set = set[n:]
		hi := lo
		if len(set) > 1 && set[0] == '-' {
			hi, n = utf8.DecodeRuneInString(set[1:])
			set = set[1+n:]
		}
		found = found || lo <= r && r <= hi
	}
	return found != negated
}
