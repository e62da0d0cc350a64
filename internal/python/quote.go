package python

import (
	"strings"
	"unicode/utf8"
)

// Quote is Python's urllib.parse.quote(s, safe=""): everything but ASCII
// letters, digits and "_.-~" is percent-encoded.
func Quote(s string) string { return percentEncode(s, false) }

// QuotePlus is Quote with a space written as "+".
func QuotePlus(s string) string { return percentEncode(s, true) }

func percentEncode(s string, plus bool) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		switch {
		case isLetter(c) || '0' <= c && c <= '9' || strings.IndexByte("_.-~", c) >= 0:
			b = append(b, c)
		case c == ' ' && plus:
			b = append(b, '+')
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// Unquote is Python's urllib.parse.unquote. It replaces escapes once, and malformed ones
// stay. Each run of ASCII is decoded by itself; in its bytes, each sequence that is not
// UTF-8 becomes one U+FFFD.
func Unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
		switch n {
		case -1:
			n = len(s)
		case 0:
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		writeReplaced(&b, unquoteBytes(s[:n]))
		s = s[n:]
	}
	return b.String()
}

// unquoteBytes replaces every well-formed escape by its byte.
func unquoteBytes(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, ok1 := fromHex(s[i+1])
			low, ok2 := fromHex(s[i+2])
			if ok1 && ok2 {
				b = append(b, high<<4|low)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

// fromHex returns the value of a hex digit.
func fromHex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// writeReplaced writes bytes as Python decodes them with errors="replace": a character
// that is cut short becomes one U+FFFD, and so does each byte that begins no character.
func writeReplaced(b *strings.Builder, data []byte) {
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			n = brokenLen(data)
		}
		b.WriteRune(r)
		data = data[n:]
	}
}

// brokenLen returns how many bytes at the start of data, where no whole character stands,
// are the beginning of one; at least 1.
func brokenLen(data []byte) int {
	// They are if some continuation bytes after them would make them a whole character.
	for n := min(3, len(data)); n > 1; n-- {
		for _, tail := range [...]string{"\x80", "\x80\x80"} {
			full := append(append([]byte{}, data[:n]...), tail...)
			if utf8.Valid(full) && utf8.RuneCount(full) == 1 {
				return n
			}
		}
	}
	return 1
}

// ParseQuery is Python's dict(parse_qsl(query, keep_blank_values=True)): only "&" separates
// parameters, and "+" is a space. Of several equal keys the last value counts, at the place
// of the first.
func ParseQuery(query string) *Object {
	o := &Object{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(strings.ReplaceAll(part, "+", " "), "=")
		o.Set(Unquote(key), Unquote(value))
	}
	return o
}
