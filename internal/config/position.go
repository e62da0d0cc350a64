package config

import (
	"strings"

	"github.com/BurntSushi/toml"
)

// position is where a key, or an element of an array, stands in a TOML file.
// The decoder tells only the lines of keys that it refuses, and one line for all tables of
// an array.
type position struct {
	line  int
	keys  map[string]*position
	elems []*position
}

// at returns the position under key; p itself if nothing is known about key.
func (p *position) at(key string) *position {
	if child, ok := p.keys[key]; ok {
		return child
	}
	return p
}

// elem returns the position of the i-th element; p itself if there is no such element.
func (p *position) elem(i int) *position {
	if i < len(p.elems) {
		return p.elems[i]
	}
	return p
}

// child returns the position under key, made on the given line if it is new.
func (p *position) child(key string, line int) *position {
	if child, ok := p.keys[key]; ok {
		return child
	}
	if p.keys == nil {
		p.keys = map[string]*position{}
	}
	child := &position{line: line}
	p.keys[key] = child
	return child
}

// locate returns the positions in text, which the decoder has accepted. Given
// anything else it returns some positions.
func locate(text string) *position {
	s := scanner{text: text, line: 1}
	root := &position{line: 1}
	table := root
	for s.space(); !s.end(); s.space() {
		line, before := s.line, s.at
		switch {
		case s.skip("[["):
			path := s.path()
			s.skip("]]")
			array := descend(root, path, line)
			table = &position{line: line}
			array.elems = append(array.elems, table)
		case s.skip("["):
			path := s.path()
			s.skip("]")
			table = last(descend(root, path, line))
		default:
			s.pair(table)
		}
		if s.at == before {
			s.next()
		}
	}
	return root
}

// descend follows a dotted key; an array of tables on the way stands for its
// last element.
func descend(p *position, path []string, line int) *position {
	for _, key := range path {
		p = last(p).child(key, line)
	}
	return p
}

func last(p *position) *position {
	if n := len(p.elems); n > 0 {
		return p.elems[n-1]
	}
	return p
}

// scanner walks over TOML that is known to be well-formed.
type scanner struct {
	text string
	at   int
	line int
}

func (s *scanner) end() bool { return s.at >= len(s.text) }

func (s *scanner) rest() string { return s.text[s.at:] }

func (s *scanner) next() {
	if !s.end() {
		if s.text[s.at] == '\n' {
			s.line++
		}
		s.at++
	}
}

func (s *scanner) skip(token string) bool {
	if strings.HasPrefix(s.rest(), token) {
		s.at += len(token)
		return true
	}
	return false
}

// until goes on to the first of the bytes in stop.
func (s *scanner) until(stop string) {
	for !s.end() && strings.IndexByte(stop, s.text[s.at]) < 0 {
		s.next()
	}
}

// blank skips white space within a line.
func (s *scanner) blank() {
	for !s.end() && (s.text[s.at] == ' ' || s.text[s.at] == '\t') {
		s.at++
	}
}

// space skips white space, line ends and comments.
func (s *scanner) space() {
	for !s.end() {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.next()
		case '#':
			s.until("\n")
		default:
			return
		}
	}
}

// path reads a dotted key.
func (s *scanner) path() []string {
	var path []string
	for {
		s.blank()
		begin := s.at
		if strings.HasPrefix(s.rest(), `"`) || strings.HasPrefix(s.rest(), `'`) {
			s.quoted()
			path = append(path, unquote(s.text[begin:s.at]))
		} else {
			s.until(" \t\r\n.=]}#")
			path = append(path, s.text[begin:s.at])
		}
		s.blank()
		if !s.skip(".") {
			return path
		}
	}
}

// pair reads `key = value` of a table.
func (s *scanner) pair(table *position) {
	line := s.line
	p := descend(table, s.path(), line)
	s.skip("=")
	s.value(p)
}

// value reads a value and notes where its parts are.
func (s *scanner) value(p *position) {
	s.blank()
	switch {
	case strings.HasPrefix(s.rest(), `"`), strings.HasPrefix(s.rest(), `'`):
		s.quoted()
	case s.skip("["):
		s.list("]", func() {
			elem := &position{line: s.line}
			p.elems = append(p.elems, elem)
			s.value(elem)
		})
	case s.skip("{"):
		s.list("}", func() { s.pair(p) })
	default:
		s.until(",]}\n#")
	}
}

// list reads what stands between brackets, with commas.
func (s *scanner) list(end string, item func()) {
	for {
		s.space()
		if s.end() || s.skip(end) {
			return
		}
		before := s.at
		item()
		s.space()
		if !s.skip(",") && s.at == before {
			s.next()
		}
	}
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.at : s.at+1]
	if long := strings.Repeat(quote, 3); s.skip(long) {
		s.closing(long)
		// Up to two quotes may stand before the closing three.
		for range 2 {
			s.skip(quote)
		}
		return
	}
	s.at++
	s.closing(quote)
}

func (s *scanner) closing(quotes string) {
	for !s.end() && !s.skip(quotes) {
		if quotes[0] == '"' && s.text[s.at] == '\\' {
			s.next()
		}
		s.next()
	}
}

// unquote returns the text of a quoted key.
func unquote(quoted string) string {
	var v struct{ Key string }
	if _, err := toml.Decode("Key = "+quoted, &v); err != nil {
		return quoted
	}
	return v.Key
}
