package dags

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/python"
)

const (
	maxConnectionID = 250    // characters, as in the table connection
	maxConnections  = 10_000 // of one DAG; more are not kept
	maxTemplates    = 50_000 // places in templates of one document that are looked at
	maxReference    = 600    // bytes of such a place
)

var (
	// reference is conn.ID, conn.get('ID') or conn['ID'].
	reference = regexp.MustCompile(`^conn(?:\.get\(\s*(?:'([^']*)'|"([^"]*)")|\[\s*(?:'([^']*)'|"([^"]*)")|\.(\w+))`)
	// word is what a positional argument of a Python function looks like if it can be an
	// id and not a date, a path or a sentence.
	word = regexp.MustCompile(`^[A-Za-z_][\w.-]*$`)
)

// hints gathers connection ids that a document shows.
type hints struct {
	*document
	ids    map[string]bool
	budget *int // how many places in templates have been looked at
}

// arguments are the attributes that hold the arguments of a mapped task.
var arguments = []string{"partial_kwargs", "expand_input", "op_kwargs_expand_input"}

// task looks where Airflow serializes what an author wrote: the template fields of an
// operator, and the arguments of a mapped one.
func (h hints) task(task value) {
	fields := make(map[string]bool)
	for name := range h.Items(h.get(task, "template_fields")) {
		if key, ok := h.string(name); ok {
			fields[key] = true
		}
	}
	for raw, member := range h.Members(task) {
		switch key := python.JSONText(raw); {
		case slices.Contains(arguments, key):
			h.walk(member)
		case fields[key]:
			h.member(key, member)
		}
	}
}

// named adds what members called *conn_id* hold, without looking for templates.
func (h hints) named(v value) {
	for key, member := range h.Members(v) {
		if isConnKey(python.JSONText(key)) {
			h.held(member)
		}
	}
}

func isConnKey(key string) bool { return strings.Contains(key, "conn_id") }

// member looks at one named value.
func (h hints) member(key string, v value) {
	switch {
	case isConnKey(key):
		h.held(v)
	case key == "op_args":
		for item := range h.Items(v) {
			if text, ok := h.string(item); ok && word.MatchString(text) {
				h.add(text)
			}
		}
	}
	h.walk(v)
}

// held adds a text, or each of a list.
func (h hints) held(v value) {
	if text, ok := h.string(v); ok {
		h.add(text)
	}
	for item := range h.Items(v) {
		if text, ok := h.string(item); ok {
			h.add(text)
		}
	}
}

// walk looks at everything inside v.
func (h hints) walk(v value) {
	switch h.Kind(v) {
	case python.KindText:
		if text, ok := h.string(v); ok {
			h.template(text)
		}
	case python.KindArray:
		for item := range h.Items(v) {
			h.walk(item)
		}
	case python.KindObject:
		for key, member := range h.Members(v) {
			h.member(python.JSONText(key), member)
		}
	}
}

// template looks at the parts of a text that Jinja evaluates.
func (h hints) template(text string) {
	for {
		start := strings.IndexByte(text, '{')
		if start < 0 || start+1 >= len(text) {
			return
		}
		text = text[start+1:]
		var closing string
		switch text[0] {
		case '{':
			closing = "}}"
		case '%':
			closing = "%}"
		default:
			continue
		}
		end := strings.Index(text, closing)
		if end < 0 {
			return
		}
		h.expression(text[:end])
		text = text[end:]
	}
}

// expression looks for connections in one of them.
func (h hints) expression(text string) {
	for before := byte(0); *h.budget < maxTemplates; {
		at := strings.Index(text, "conn")
		if at < 0 {
			return
		}
		if at > 0 {
			before = text[at-1]
		}
		*h.budget++
		m := reference.FindStringSubmatch(text[at:min(len(text), at+maxReference)])
		if m != nil && m[5] != "get" && before != '.' && !isWord(before) {
			h.add(strings.Join(m[1:], "")) // one of them has matched
		}
		before, text = 'n', text[at+len("conn"):]
	}
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// add keeps what can be an id, and not a template that makes one.
func (h hints) add(id string) {
	if id == "" || len(h.ids) >= maxConnections || strings.Contains(id, "{{") || strings.Contains(id, "{%") ||
		!utf8.ValidString(id) || utf8.RuneCountInString(id) > maxConnectionID || strings.ContainsFunc(id, isControl) {
		return
	}
	h.ids[id] = true
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
