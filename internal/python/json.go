package python

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// MaxDepth is how deep lists and objects may nest in the extra of a connection. Python's
// own limit is on its whole stack: 1,000 frames. This many are left in Python 3.11 for a
// short script that calls get_connection. A task has some frames less.
const MaxDepth = 979

// LoadJSON is Python's json.loads of text in which lists and objects nest at most depth
// deep. It returns nil, bool, [Integer], float64, string, []any or *[Object]. Beyond
// RFC 8259 it takes NaN, Infinity, -Infinity and lone surrogates, raw or escaped; the
// last of several equal keys counts. Its error is ErrSyntax, ErrDigits, ErrDepth or
// ErrSize, and shows nothing of the text.
func LoadJSON(text string, depth int) (any, error) {
	x, err := IndexJSON([]byte(text), JSONLimits{Depth: depth, Digits: MaxDigits})
	var place *PlaceError
	if errors.As(err, &place) {
		place.Err = ErrSyntax // text that follows the end is nothing else to Python
	}
	if err != nil {
		return nil, err
	}
	return x.load(0), nil
}

// load returns the Python value of v.
func (x *JSONIndex) load(v JSONValue) any {
	switch x.Kind(v) {
	case KindObject:
		o := &Object{}
		for key, member := range x.Members(v) {
			o.Set(JSONText(key), x.load(member))
		}
		return o
	case KindArray:
		list := []any{}
		for item := range x.Items(v) {
			list = append(list, x.load(item))
		}
		return list
	case KindText:
		return JSONText(x.Raw(v))
	case KindNumber:
		return loadNumber(string(x.Raw(v)))
	case KindTrue:
		return true
	case KindFalse:
		return false
	}
	return nil
}

// loadNumber returns an [Integer] or a float64.
func loadNumber(text string) any {
	switch {
	case strings.ContainsAny(text, ".eENI"): // a fraction, an exponent, NaN, Infinity
		f, _ := strconv.ParseFloat(text, 64) // out of range is infinity, to Python too
		return f
	case text == "-0":
		return Integer("0")
	}
	return Integer(text)
}

// DumpJSON is Python's json.dumps with its defaults: ASCII only, ", " and ": "
// between tokens. The value must hold no [Opaque].
func DumpJSON(value any) string { return string(appendDump(nil, value)) }

func appendDump(b []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case Integer:
		return append(b, v...)
	case float64:
		return appendFloat(b, v)
	case string:
		return appendASCII(b, v)
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendDump(b, item)
		}
		return append(b, ']')
	case *Object:
		b = append(b, '{')
		for i, key := range v.keys {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendASCII(b, key)
			b = append(b, ": "...)
			b = appendDump(b, v.values[key])
		}
		return append(b, '}')
	}
	panic("python: not a JSON value")
}

// appendFloat appends repr(f): the fewest digits from which Python reads f again, with an
// exponent below 1e-4 and from 1e16 on.
func appendFloat(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(b, f, 'e', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	if !strings.Contains(string(b[start:]), ".") {
		b = append(b, ".0"...)
	}
	return b
}

// appendASCII appends a JSON string in which everything but printable ASCII is
// escaped, lone surrogates too.
func appendASCII(b []byte, s string) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		r, n := DecodeRune(s)
		s = s[n:]
		switch i := strings.IndexRune("\"\\\b\f\n\r\t", r); {
		case i >= 0:
			b = append(b, '\\', `"\bfnrt`[i])
		case ' ' <= r && r <= '~':
			b = append(b, byte(r))
		case r > 0xFFFF:
			r -= 0x10000
			b = appendEscape(b, 0xD800+r>>10)
			b = appendEscape(b, 0xDC00+r&0x3FF)
		default:
			b = appendEscape(b, r)
		}
	}
	return append(b, '"')
}

// appendEscape appends the escape \uxxxx.
func appendEscape(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
