package python

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"unicode/utf8"
)

// What can be wrong with a JSON text. The first two are Python's JSONDecodeError, which
// Airflow catches where a text need not be JSON. It does not catch the others.
var (
	ErrSyntax    = errors.New("the JSON does not parse")
	ErrExtraData = errors.New("text follows the JSON")
	ErrDigits    = errors.New("an integer has over 4,300 digits")
	ErrDepth     = errors.New("the JSON nests too deeply")
	ErrSize      = errors.New("the JSON is too large") // a limit of connfs, not of Python
)

// PlaceError is [ErrSyntax] or [ErrExtraData] with the place where the text stops being JSON.
type PlaceError struct {
	Err          error
	Line, Column int // from 1; the column counts bytes
}

// Error implements error.
func (e *PlaceError) Error() string {
	return fmt.Sprintf("%v, at line %d, column %d", e.Err, e.Line, e.Column)
}

// Unwrap returns the error without its place.
func (e *PlaceError) Unwrap() error { return e.Err }

// placed returns err with the place of a byte of a text.
func placed(err error, text []byte, at int) error {
	before := text[:min(at, len(text))]
	return &PlaceError{
		Err: err, Line: bytes.Count(before, []byte{'\n'}) + 1,
		Column: len(before) - bytes.LastIndexByte(before, '\n'),
	}
}

// JSONLimits are the limits on a JSON text.
type JSONLimits struct {
	Depth  int // how deep lists and objects may nest
	Values int // how many values and keys there may be; 0: any number
	Digits int // how many digits an integer may have; 0: any number
}

// JSONIndex is a JSON text, and where its values are in it. Nothing is decoded before
// somebody asks for it, so that an index costs 16 bytes a value and no more.
//
// encoding/json cannot serve here: it does not know NaN, which Airflow 2 writes; keys that
// differ in case are the same to it; it does not report duplicate keys and lone surrogates.
type JSONIndex struct {
	text  []byte
	nodes []jsonNode // in the order of the text; in an object, each key before its value
}

// JSONValue is a value in a [JSONIndex]. 0 is the value that the whole text is.
type JSONValue int

// NoValue stands for the value of a key that is not there.
const NoValue JSONValue = -1

// JSONKind is what a value is.
type JSONKind uint8

// The kinds of values.
const (
	KindNone   JSONKind = iota // of [NoValue]
	KindObject                 // a JSON object
	KindArray
	KindText
	KindNumber // also NaN, Infinity and -Infinity
	KindTrue
	KindFalse
	KindNull
)

// jsonNode is a value or a key.
type jsonNode struct {
	start, end uint32 // where it is in the text; a string without its quotes
	next       uint32 // the node after this one and all nodes inside it
	kind       JSONKind
}

// IndexJSON checks text by the rules of Python's json.loads, and finds its values.
// Beyond RFC 8259 Python takes NaN, Infinity, -Infinity and lone surrogates. Strings may
// hold bytes that are not UTF-8. The error is ErrSyntax or ErrExtraData in a [PlaceError], or
// ErrDigits, ErrDepth or ErrSize, for the first thing that is wrong. The caller must not change
// text later.
func IndexJSON(text []byte, limits JSONLimits) (*JSONIndex, error) {
	if len(text) > math.MaxUint32 {
		return nil, ErrSize
	}
	s := jsonScanner{
		JSONIndex: JSONIndex{text: text, nodes: make([]jsonNode, 0, len(text)/32+8)},
		limits:    limits,
	}
	s.space()
	if !s.value(0) {
		if errors.Is(s.err, ErrSyntax) {
			return nil, placed(s.err, text, s.at)
		}
		return nil, s.err
	}
	if s.space(); s.at < len(text) {
		return nil, placed(ErrExtraData, text, s.at)
	}
	return &s.JSONIndex, nil
}

// jsonScanner reads a text from at on. A method that returns false refuses the text, and
// has set err.
type jsonScanner struct {
	JSONIndex
	limits JSONLimits
	at     int
	err    error
}

func (s *jsonScanner) fail(err error) bool {
	s.err = err
	return false
}

func (s *jsonScanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end. (A NUL is never valid either.)
func (s *jsonScanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// add appends a node. Of an object or an array, next and end are set later.
func (s *jsonScanner) add(kind JSONKind, start, end int) bool {
	s.nodes = append(s.nodes, jsonNode{
		start: uint32(start), end: uint32(end), next: uint32(len(s.nodes) + 1), kind: kind,
	})
	return true
}

// value reads one value.
func (s *jsonScanner) value(depth int) bool {
	if s.limits.Values > 0 && len(s.nodes) >= s.limits.Values {
		return s.fail(ErrSize)
	}
	switch c := s.peek(); c {
	case '{':
		return s.group(KindObject, '}', depth)
	case '[':
		return s.group(KindArray, ']', depth)
	case '"':
		return s.string()
	case 't':
		return s.word("true", KindTrue)
	case 'f':
		return s.word("false", KindFalse)
	case 'n':
		return s.word("null", KindNull)
	case 'N':
		return s.word("NaN", KindNumber)
	case 'I':
		return s.word("Infinity", KindNumber)
	case '-':
		if bytes.HasPrefix(s.text[s.at:], []byte("-I")) {
			return s.word("-Infinity", KindNumber)
		}
		return s.number()
	default:
		if '0' <= c && c <= '9' {
			return s.number()
		}
		return s.fail(ErrSyntax)
	}
}

// group reads an object or an array.
func (s *jsonScanner) group(kind JSONKind, closing byte, depth int) bool {
	if depth >= s.limits.Depth {
		return s.fail(ErrDepth)
	}
	self, start := len(s.nodes), s.at
	s.add(kind, start, start)
	s.at++
	for first := true; ; first = false {
		s.space()
		if first && s.peek() == closing {
			break
		}
		if kind == KindObject && !s.key() {
			return false
		}
		if !s.value(depth + 1) {
			return false
		}
		if s.space(); s.peek() == closing {
			break
		}
		if s.peek() != ',' {
			return s.fail(ErrSyntax)
		}
		s.at++
	}
	s.at++
	s.nodes[self].end, s.nodes[self].next = uint32(s.at), uint32(len(s.nodes))
	return true
}

// key reads a key and the colon, up to the value.
func (s *jsonScanner) key() bool {
	if s.peek() != '"' {
		return s.fail(ErrSyntax)
	}
	if !s.string() {
		return false
	}
	if s.space(); s.peek() != ':' {
		return s.fail(ErrSyntax)
	}
	s.at++
	s.space()
	return true
}

func (s *jsonScanner) word(word string, kind JSONKind) bool {
	if !bytes.HasPrefix(s.text[s.at:], []byte(word)) {
		return s.fail(ErrSyntax)
	}
	s.at += len(word)
	return s.add(kind, s.at-len(word), s.at)
}

func (s *jsonScanner) number() bool {
	start := s.at
	if s.peek() == '-' {
		s.at++
	}
	digits := s.at
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return s.fail(ErrSyntax)
	}
	// whole: neither the fraction nor the exponent is cut short
	end, integer, whole := s.at, true, true
	if s.peek() == '.' {
		s.at++
		if whole = s.digits(); whole {
			end, integer = s.at, false
		}
	}
	if c := s.peek(); whole && (c == 'e' || c == 'E') {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		if whole = s.digits(); whole {
			end, integer = s.at, false
		}
	}
	// Python converts an integer before it looks at the text after it.
	if integer && s.limits.Digits > 0 && end-digits > s.limits.Digits {
		return s.fail(ErrDigits)
	}
	if !whole {
		return s.fail(ErrSyntax)
	}
	return s.add(KindNumber, start, end)
}

// digits steps over ASCII digits and reports whether there were any.
func (s *jsonScanner) digits() bool {
	start := s.at
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > start
}

func (s *jsonScanner) string() bool {
	s.at++
	start := s.at
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.add(KindText, start, s.at-1)
		case c < 0x20:
			return s.fail(ErrSyntax)
		case c != '\\':
			s.at++
		default:
			n := escapeLength(s.text[s.at:])
			if n == 0 {
				return s.fail(ErrSyntax)
			}
			s.at += n
		}
	}
	return s.fail(ErrSyntax)
}

// The letters of the escapes of one character, and what they stand for.
const (
	escapeLetters = `"\/bfnrt`
	escapedBytes  = "\"\\/\b\f\n\r\t"
)

// escapeLength returns the length of the escape that s begins with, or 0.
func escapeLength(s []byte) int {
	switch {
	case len(s) < 2:
		return 0
	case strings.IndexByte(escapeLetters, s[1]) >= 0:
		return 2
	}
	if _, ok := codeUnit(s); ok {
		return 6
	}
	return 0
}

// codeUnit returns the UTF-16 code unit of the escape \uXXXX that s begins with.
func codeUnit(s []byte) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range s[2:6] {
		v, ok := fromHex(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(v)
	}
	return r, true
}

// JSONText decodes a JSON string without its quotes, as [JSONIndex.Raw] and
// [JSONIndex.Members] return it. With a lone surrogate in it the result is not UTF-8; see
// [SurrogateEscape].
func JSONText(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			b = append(b, raw[i])
			i++
			continue
		}
		if letter := strings.IndexByte(escapeLetters, raw[i+1]); letter >= 0 {
			b = append(b, escapedBytes[letter])
			i += 2
			continue
		}
		r, _ := codeUnit(raw[i:])
		i += 6
		if 0xD800 <= r && r < 0xDC00 {
			// Together with a low half that is escaped right after it, it is one character.
			if low, ok := codeUnit(raw[i:]); ok && 0xDC00 <= low && low < 0xE000 {
				r = 0x10000 + (r-0xD800)<<10 + (low - 0xDC00)
				i += 6
			}
		}
		if 0xD800 <= r && r < 0xE000 {
			b = appendSurrogate(b, r)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b)
}

// Kind returns what v is.
func (x *JSONIndex) Kind(v JSONValue) JSONKind {
	if v == NoValue {
		return KindNone
	}
	return x.nodes[v].kind
}

// Raw returns the text of v, a string without its quotes. v must not be [NoValue].
func (x *JSONIndex) Raw(v JSONValue) []byte { return x.text[x.nodes[v].start:x.nodes[v].end] }

// Items yields the values of an array, and nothing if v is no array.
func (x *JSONIndex) Items(v JSONValue) iter.Seq[JSONValue] {
	return func(yield func(JSONValue) bool) {
		if x.Kind(v) != KindArray {
			return
		}
		end := JSONValue(x.nodes[v].next)
		for i := v + 1; i < end; i = JSONValue(x.nodes[i].next) {
			if !yield(i) {
				return
			}
		}
	}
}

// Members yields the keys and values of an object in the order of the text, and nothing if
// v is no object. The keys are raw: [JSONText] decodes them.
func (x *JSONIndex) Members(v JSONValue) iter.Seq2[[]byte, JSONValue] {
	return func(yield func([]byte, JSONValue) bool) {
		if x.Kind(v) != KindObject {
			return
		}
		end := JSONValue(x.nodes[v].next)
		for i := v + 1; i < end; {
			member := i + 1 // a key is one node
			if !yield(x.Raw(i), member) {
				return
			}
			i = JSONValue(x.nodes[member].next)
		}
	}
}

// Get returns the value of a key in an object, or [NoValue]. If the key is there several
// times, the last one counts.
func (x *JSONIndex) Get(v JSONValue, key string) (found JSONValue, several bool) {
	found = NoValue
	for raw, member := range x.Members(v) {
		if string(raw) != key && (bytes.IndexByte(raw, '\\') < 0 || JSONText(raw) != key) {
			continue
		}
		several = several || found != NoValue
		found = member
	}
	return found, several
}
