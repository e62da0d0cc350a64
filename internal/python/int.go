package python

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// MaxDigits is how many digits, leading zeros included, Python converts between text and
// integer. It refuses more.
const MaxDigits = 4300

// The errors of [Int] and [IntOfFloat]. The second is a limit of connfs: Python's integers
// have any size.
var (
	ErrNotInteger = errors.New("not an integer")
	ErrBeyond64   = errors.New("beyond 64 bits")
)

// Int is Python's int(text). It takes white space around the number, one sign, underscores
// between digits, and the decimal digits of every script. Its error is
// ErrNotInteger or ErrBeyond64.
func Int(text string) (int64, error) {
	s := strings.Trim(asciiDigits(text), " \t\n\v\f\r")
	sign := ""
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign, s = s[:1], s[1:]
	}
	digits := strings.ReplaceAll(s, "_", "")
	switch {
	case digits == "" || strings.Trim(digits, "0123456789") != "":
		return 0, ErrNotInteger
	case s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__"):
		return 0, ErrNotInteger
	case len(digits) > MaxDigits:
		return 0, ErrNotInteger
	}
	n, err := strconv.ParseInt(sign+digits, 10, 64)
	if err != nil {
		return 0, ErrBeyond64
	}
	return n, nil
}

// asciiDigits replaces what is outside of ASCII: a decimal digit by its ASCII digit, white
// space by a space, and everything else by "?".
func asciiDigits(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x7F:
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		if d, ok := digitValue(r); ok {
			return '0' + d
		}
		return '?'
	}, text)
}

// digitValue returns the value of a decimal digit. Unicode has
// digits in runs of ten, from zero to nine.
func digitValue(r rune) (rune, bool) {
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return (r - rune(t.Lo)) % 10, true
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return (r - rune(t.Lo)) % 10, true
		}
	}
	return 0, false
}

// IntOfFloat is Python's int(f), which cuts the fraction off. Its error is
// ErrNotInteger or ErrBeyond64.
func IntOfFloat(f float64) (int64, error) {
	switch f = math.Trunc(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return 0, ErrNotInteger
	case f < math.MinInt64 || f >= -math.MinInt64:
		return 0, ErrBeyond64
	}
	return int64(f), nil
}
