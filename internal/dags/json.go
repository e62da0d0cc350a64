package dags

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// document is a JSON text and where its values are in it. Nothing is decoded before
// somebody asks, so that a document costs 16 bytes a value and no more.
//
// encoding/json does not do: it knows no NaN, which Airflow 2 writes, takes keys for
// equal that differ in case, and does not tell of duplicate keys and lone surrogates.
type document struct {
	text      []byte
	nodes     []node // in the order of the text; the members of an object are keys and values in turn
	duplicate bool   // somebody asked for a key that an object has twice
}

// value is the index of a node.
type value int

// none is the value of a key that is not there.
const none value = -1

type kind uint8

const (
	kindNone kind = iota
	kindObject
	kindArray
	kindText
	kindNumber // also NaN, Infinity and -Infinity
	kindTrue
	kindFalse
	kindNull
)

type node struct {
	start, end uint32 // in the text; of a text without its quotes
	next       uint32 // the node after this one and all that is inside it
	kind       kind
}

// parseJSON checks the whole text by the rules of Python's json.
func parseJSON(text []byte) (*document, error) {
	if len(text) > maxDocument {
		return nil, invalid(reasonTooLarge)
	}
	p := &parser{document: document{text: text, nodes: make([]node, 0, len(text)/32+8)}}
	p.space()
	p.value(0)
	if p.failed == "" {
		if p.space(); p.at < len(text) {
			p.failed = reasonTrailing
		} else if !utf8.Valid(text) {
			p.failed = reasonNotUTF8
		}
	}
	if p.failed != "" {
		return nil, invalid(p.failed)
	}
	return &p.document, nil
}

type parser struct {
	document
	at     int
	failed string // the first reason to stop
}

func (p *parser) fail(reason string) bool {
	if p.failed == "" {
		p.failed = reason
	}
	return false
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// value reads one value, and false means that the text is refused.
func (p *parser) value(depth int) bool {
	if len(p.nodes) >= maxValues {
		return p.fail(reasonTooLarge)
	}
	switch c := p.peek(); c {
	case '{':
		return p.group(kindObject, '}', depth)
	case '[':
		return p.group(kindArray, ']', depth)
	case '"':
		return p.string()
	case 't':
		return p.word("true", kindTrue)
	case 'f':
		return p.word("false", kindFalse)
	case 'n':
		return p.word("null", kindNull)
	case 'N':
		return p.word("NaN", kindNumber)
	case 'I':
		return p.word("Infinity", kindNumber)
	case '-':
		if bytes.HasPrefix(p.text[p.at:], []byte("-I")) {
			return p.word("-Infinity", kindNumber)
		}
		return p.number()
	default:
		if c >= '0' && c <= '9' {
			return p.number()
		}
		return p.fail(reasonNotJSON)
	}
}

func (p *parser) leaf(k kind, start, end int) bool {
	p.nodes = append(p.nodes, node{start: uint32(start), end: uint32(end), next: uint32(len(p.nodes) + 1), kind: k})
	return true
}

func (p *parser) group(k kind, closing byte, depth int) bool {
	if depth >= maxDepth {
		return p.fail(reasonTooDeep)
	}
	self, start := len(p.nodes), p.at
	p.leaf(k, start, start)
	p.at++
	for first := true; ; first = false {
		p.space()
		if first && p.peek() == closing {
			break
		}
		if k == kindObject {
			if p.peek() != '"' {
				return p.fail(reasonNotJSON)
			}
			if !p.string() {
				return false
			}
			if p.space(); p.peek() != ':' {
				return p.fail(reasonNotJSON)
			}
			p.at++
			p.space()
		}
		if !p.value(depth + 1) {
			return false
		}
		if p.space(); p.peek() == closing {
			break
		}
		if p.peek() != ',' {
			return p.fail(reasonNotJSON)
		}
		p.at++
	}
	p.at++
	p.nodes[self].end, p.nodes[self].next = uint32(p.at), uint32(len(p.nodes))
	return true
}

func (p *parser) word(word string, k kind) bool {
	if !bytes.HasPrefix(p.text[p.at:], []byte(word)) {
		return p.fail(reasonNotJSON)
	}
	p.at += len(word)
	return p.leaf(k, p.at-len(word), p.at)
}

func (p *parser) number() bool {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !p.digits() {
		return false
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return false
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return false
		}
	}
	return p.leaf(kindNumber, start, p.at)
}

// digits reads at least one digit.
func (p *parser) digits() bool {
	start := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > start || p.fail(reasonNotJSON)
}

func (p *parser) string() bool {
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.leaf(kindText, start, p.at-1)
		case c < 0x20:
			return p.fail(reasonNotJSON)
		case c != '\\':
			p.at++
		default:
			n := escapeLength(p.text[p.at:])
			if n == 0 {
				return p.fail(reasonNotJSON)
			}
			p.at += n
		}
	}
	return p.fail(reasonNotJSON)
}

// escapeLength returns the length of the escape that s begins with, 0 if it is none.
func escapeLength(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s); ok {
			return 6
		}
	}
	return 0
}

// hex4 returns the code unit of the escape \uXXXX that s begins with.
func hex4(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape decodes a text without its quotes, and returns false for half of a
// surrogate pair, which no UTF-8 text can hold and Python's can.
func unescape(s []byte) (string, bool) {
	if bytes.IndexByte(s, '\\') < 0 {
		return string(s), true
	}
	out, whole := make([]byte, 0, len(s)), true
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		switch s[i+1] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, _ := hex4(s[i:])
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s[i+6:])
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					whole = false
				} else {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
			i += 4
		default:
			out = append(out, s[i+1])
		}
		i += 2
	}
	return string(out), whole
}

// kind returns what v is; kindNone for none.
func (d *document) kind(v value) kind {
	if v == none {
		return kindNone
	}
	return d.nodes[v].kind
}

// raw returns v as it is written, a text without its quotes.
func (d *document) raw(v value) []byte { return d.text[d.nodes[v].start:d.nodes[v].end] }

// string returns a text, and false for anything else and for a text that UTF-8 cannot
// hold.
func (d *document) string(v value) (string, bool) {
	if d.kind(v) != kindText {
		return "", false
	}
	return unescape(d.raw(v))
}

// items calls f for each value of an array, until f returns false.
func (d *document) items(v value, f func(value) bool) {
	if d.kind(v) != kindArray {
		return
	}
	end := value(d.nodes[v].next)
	for i := v + 1; i < end; i = value(d.nodes[i].next) {
		if !f(i) {
			return
		}
	}
}

// members calls f for each member of an object.
func (d *document) members(v value, f func(key []byte, member value)) {
	if d.kind(v) != kindObject {
		return
	}
	end := value(d.nodes[v].next)
	for i := v + 1; i < end; {
		member := i + 1 // a key is one node
		f(d.raw(i), member)
		i = value(d.nodes[member].next)
	}
}

// get returns the member of an object that has exactly this key, none if there is
// none.
func (d *document) get(v value, key string) value {
	found := none
	d.members(v, func(k []byte, member value) {
		if string(k) != key {
			if bytes.IndexByte(k, '\\') < 0 {
				return
			}
			if text, _ := unescape(k); text != key {
				return
			}
		}
		if found != none {
			d.duplicate = true
		}
		found = member
	})
	return found
}

// unwrap returns what is inside {"__type": kind, "__var": ...}, and v itself where it
// is anything else.
func (d *document) unwrap(v value, kind string) value {
	if t, ok := d.string(d.get(v, "__type")); ok && t == kind {
		if inside := d.get(v, "__var"); inside != none {
			return inside
		}
	}
	return v
}

// show returns the beginning of a value, for a log line.
func (d *document) show(v value) string {
	if text, ok := d.string(v); ok {
		return quote(text)
	}
	return quote(string(d.raw(v)))
}

// digit returns a number that is written as one decimal digit.
func (d *document) digit(v value) (int, bool) {
	if d.kind(v) != kindNumber || len(d.raw(v)) != 1 {
		return 0, false
	}
	n, err := strconv.Atoi(string(d.raw(v)))
	return n, err == nil
}
