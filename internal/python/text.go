// Package python does what functions of Python's standard library do, where connfs must
// understand a text exactly as Airflow does: JSON, integers, strings and their quoting,
// URLs, patterns, base64 and command lines. It knows nothing of connections or of Airflow.
//
// Python's text can hold lone surrogates: its JSON parser makes them of \ud800, and the
// bytes of an environment variable that are not UTF-8 become U+DC80 to U+DCFF. In this
// package such text is a Go string in which a surrogate stands as the three bytes that
// UTF-8 would give it if it allowed surrogates. So text without surrogates is UTF-8, and
// for text with them utf8.ValidString is false.
package python

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// SurrogateEscape decodes bytes as Python does those of an environment variable.
func SurrogateEscape(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b []byte
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = appendSurrogate(b, 0xDC00+rune(s[i]))
		} else {
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// appendSurrogate appends one surrogate in its three bytes.
func appendSurrogate(b []byte, r rune) []byte {
	return append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0xBF, 0x80|byte(r)&0xBF)
}

// DecodeRune returns the first character of s, which may be a surrogate, and its width in
// bytes. s must not be empty.
func DecodeRune(s string) (r rune, width int) {
	r, width = utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && width == 1 && len(s) >= 3 {
		return rune(s[0]&0x0F)<<12 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F), 3
	}
	return r, width
}

// IsSpace is Python's str.isspace of one character: Unicode's white space and the four
// separators of ASCII.
func IsSpace(r rune) bool {
	return unicode.IsSpace(r) || 0x1C <= r && r <= 0x1F
}

// Strip is Python's str.strip().
func Strip(s string) string { return strings.TrimFunc(s, IsSpace) }

// SplitLines is Python's str.splitlines().
func SplitLines(s string) []string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch r {
		case '\r', '\v', '\f', '\x1c', '\x1d', '\x1e', '\u0085', '\u2028', '\u2029':
			return '\n'
		}
		return r
	}, s)
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Lower is Python's str.lower(), which knows the final sigma and the dotted capital I.
// Text with surrogates is returned as it is; connfs never serves such text.
func Lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	if !utf8.ValidString(s) {
		return s
	}
	return cases.Lower(language.Und).String(s)
}

// Upper is Python's str.upper(): "ß" becomes "SS". Bytes that are not UTF-8 stay.
func Upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	upper := cases.Upper(language.Und)
	var b strings.Builder
	for len(s) > 0 {
		n := validPrefix(s)
		b.WriteString(upper.String(s[:n]))
		if n < len(s) {
			b.WriteByte(s[n])
			n++
		}
		s = s[n:]
	}
	return b.String()
}

// validPrefix returns how many bytes at the start of s are UTF-8.
func validPrefix(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
