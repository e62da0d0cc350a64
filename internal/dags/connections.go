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
	maxTemplates    = 50_000 // places in a document's templates that are searched
	maxReference    = 600    // bytes of such a place
)

var (
	// reference is conn.ID, conn.get('ID') or conn['ID'].
	reference = regexp.MustCompile(`^conn(?:\.get\(\s*(?:'([^']*)'|"([^"]*)")` +
		`|\[\s*(?:'([^']*)'|"([^"]*)")|\.(\w+))`)
	// word matches a positional argument of a Python function that can be an id, and is
	// no date, path or sentence.
	word = regexp.MustCompile(`^[A-Za-z_][\w.-]*$`)
)

// hints collects the connection ids in a document.
type hints struct {
	*document
	ids      map[string]bool
	searched *int // places in templates, up to maxTemplates
}

// arguments are the attributes that hold the arguments of a mapped task.
var arguments = []string{"partial_kwargs", "expand_input", "op_kwargs_expand_input"}

// task searches where Airflow serializes what the author of a DAG wrote: in the template
// fields of an operator, and in the arguments of a mapped one.
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

// named adds the values of keys that contain conn_id, and does not search templates.
func (h hints) named(v value) {
	for key, member := range h.Members(v) {
		if isConnKey(python.JSONText(key)) {
			h.addAll(member)
		}
	}
}

func isConnKey(key string) bool { return strings.Contains(key, "conn_id") }

// member searches the value of one key.
func (h hints) member(key string, v value) {
	switch {
	case isConnKey(key):
		h.addAll(v)
	case key == "op_args":
		for item := range h.Items(v) {
			if text, ok := h.string(item); ok && word.MatchString(text) {
				h.add(text)
			}
		}
	}
	h.walk(v)
}

// addAll adds a text, or each text of a list.
func (h hints) addAll(v value) {
	if text, ok := h.string(v); ok {
		h.add(text)
	}
	for item := range h.Items(v) {
		if text, ok := h.string(item); ok {
			h.add(text)
		}
	}
}

// walk searches everything inside v.
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

// template searches the parts of a text that Jinja evaluates.
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

// expression searches one of these parts.
func (h hints) expression(text string) {
	for before := byte(0); *h.searched < maxTemplates; {
		at := strings.Index(text, "conn")
		if at < 0 {
			return
		}
		if at > 0 {
			before = text[at-1]
		}
		*h.searched++
		m := reference.FindStringSubmatch(text[at:min(len(text), at+maxReference)])
		if m != nil && m[5] != "get" && before != '.' && !isWord(before) {
			h.add(strings.Join(m[1:], "")) // exactly one of them is not empty
		}
		before, text = 'n', text[at+len("conn"):]
	}
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		c >= 0x80
}

// add keeps a text that can be an id. A template, whose result may be one, is not kept.
func (h hints) add(id string) {
	template := strings.Contains(id, "{{") || strings.Contains(id, "{%")
	if id == "" || template || len(h.ids) >= maxConnections || !utf8.ValidString(id) ||
		utf8.RuneCountInString(id) > maxConnectionID || strings.ContainsFunc(id, isControl) {
		return
	}
	h.ids[id] = true
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
