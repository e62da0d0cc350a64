package python

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep lists and objects may nest in the extra of a connection. Python's own
// limit is on its whole stack, 1,000 frames: this is what Python 3.11 leaves a
// short script that calls get_connection. A task has some frames less.
const MaxDepth = 979

// What can be wrong with a JSON text. Airflow catches the first where a text
// need not be JSON, and none of the others.
var (
	ErrSyntax = errors.New("the JSON does not parse")
	ErrDigits = errors.New("an integer has over 4,300 digits")
	ErrDepth  = errors.New("the JSON nests too deeply")
)

// LoadJSON is Python's json.loads of text in which lists and objects nest at most depth
// deep. It returns nil, bool, [Integer], float64, string, []any or *[Object]. Beyond RFC 8259 it takes NaN, Infinity,
// -Infinity and lone surrogates, raw or escaped; the last of several equal keys
// counts. Its error is ErrSyntax, ErrDigits or ErrDepth, and says nothing of the text.
func LoadJSON(text string, depth int) (value any, err error) {
	d := decoder{text: text, depth: depth}
	d.space()
	if value, err = d.value(); err != nil {
		return nil, err
	}
	d.space()
	if d.pos < len(text) {
		return nil, ErrSyntax
	}
	return value, nil
}

// decoder reads text from pos on; depth is how many more levels may open.
type decoder struct {
	text  string
	pos   int
	depth int
}

func (d *decoder) space() {
	for d.pos < len(d.text) && strings.IndexByte(" \t\n\r", d.text[d.pos]) >= 0 {
		d.pos++
	}
}

// peek returns the next byte, or 0 at the end. (A NUL is never valid either.)
func (d *decoder) peek() byte {
	if d.pos < len(d.text) {
		return d.text[d.pos]
	}
	return 0
}

// accept steps over token if it comes next.
func (d *decoder) accept(token string) bool {
	if !strings.HasPrefix(d.text[d.pos:], token) {
		return false
	}
	d.pos += len(token)
	return true
}

func (d *decoder) value() (any, error) {
	switch {
	case d.accept(`"`):
		return d.string()
	case d.accept("{"):
		return d.nested(d.object)
	case d.accept("["):
		return d.nested(d.list)
	case d.accept("null"):
		return nil, nil
	case d.accept("true"):
		return true, nil
	case d.accept("false"):
		return false, nil
	case d.accept("NaN"):
		return math.NaN(), nil
	case d.accept("Infinity"):
		return math.Inf(1), nil
	case d.accept("-Infinity"):
		return math.Inf(-1), nil
	}
	return d.number()
}

func (d *decoder) nested(read func() (any, error)) (any, error) {
	if d.depth == 0 {
		return nil, ErrDepth
	}
	d.depth--
	value, err := read()
	d.depth++
	return value, err
}

// object reads on after the "{".
func (d *decoder) object() (any, error) {
	o := &Object{}
	d.space()
	if d.accept("}") {
		return o, nil
	}
	for {
		if !d.accept(`"`) {
			return nil, ErrSyntax
		}
		key, err := d.string()
		if err != nil {
			return nil, err
		}
		d.space()
		if !d.accept(":") {
			return nil, ErrSyntax
		}
		d.space()
		value, err := d.value()
		if err != nil {
			return nil, err
		}
		o.Set(key, value)
		d.space()
		if d.accept("}") {
			return o, nil
		}
		if !d.accept(",") {
			return nil, ErrSyntax
		}
		d.space()
	}
}

// list reads on after the "[".
func (d *decoder) list() (any, error) {
	list := []any{}
	d.space()
	if d.accept("]") {
		return list, nil
	}
	for {
		value, err := d.value()
		if err != nil {
			return nil, err
		}
		list = append(list, value)
		d.space()
		if d.accept("]") {
			return list, nil
		}
		if !d.accept(",") {
			return nil, ErrSyntax
		}
		d.space()
	}
}

// string reads on after the opening quote.
func (d *decoder) string() (string, error) {
	var b []byte
	for d.pos < len(d.text) {
		c := d.text[d.pos]
		d.pos++
		switch {
		case c == '"':
			return string(b), nil
		case c < 0x20:
			return "", ErrSyntax
		case c != '\\':
			b = append(b, c)
			continue
		}
		c = d.peek()
		d.pos++
		if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
			b = append(b, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		if c != 'u' {
			return "", ErrSyntax
		}
		r, ok := d.hex4()
		if !ok {
			return "", ErrSyntax
		}
		if 0xD800 <= r && r < 0xDC00 {
			r = d.lowHalf(r)
		}
		if 0xD800 <= r && r < 0xE000 {
			b = appendSurrogate(b, r)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return "", ErrSyntax
}

// hex4 reads the four digits of a \u escape.
func (d *decoder) hex4() (r rune, ok bool) {
	if len(d.text)-d.pos < 4 {
		return 0, false
	}
	for _, c := range []byte(d.text[d.pos : d.pos+4]) {
		v, ok := fromHex(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(v)
	}
	d.pos += 4
	return r, true
}

// lowHalf joins a high surrogate with the low one that is escaped right after
// it. Where another thing follows, the high one stands alone.
func (d *decoder) lowHalf(high rune) rune {
	start := d.pos
	if d.accept(`\u`) {
		if low, ok := d.hex4(); ok && 0xDC00 <= low && low < 0xE000 {
			return 0x10000 + (high-0xD800)<<10 + (low - 0xDC00)
		}
	}
	d.pos = start
	return high
}

func (d *decoder) number() (any, error) {
	start := d.pos
	d.accept("-")
	if !d.accept("0") && !d.digits() {
		return nil, ErrSyntax
	}
	end, float := d.pos, false
	if d.accept(".") {
		if d.digits() {
			end, float = d.pos, true
		}
		d.pos = end
	}
	if d.accept("e") || d.accept("E") {
		_ = d.accept("+") || d.accept("-")
		if d.digits() {
			end, float = d.pos, true
		}
		d.pos = end
	}
	text := d.text[start:end]
	if float {
		f, _ := strconv.ParseFloat(text, 64) // out of range is infinity, to Python too
		return f, nil
	}
	if len(strings.TrimPrefix(text, "-")) > MaxDigits {
		return nil, ErrDigits
	}
	if text == "-0" {
		text = "0"
	}
	return Integer(text), nil
}

// digits steps over ASCII digits and says whether there were any.
func (d *decoder) digits() bool {
	start := d.pos
	for c := d.peek(); '0' <= c && c <= '9'; c = d.peek() {
		d.pos++
	}
	return d.pos > start
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

// appendFloat appends repr(f): the shortest digits that read back, with an
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
// escaped, surrogates as they are.
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

// appendEscape appends \uxxxx.
func appendEscape(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
