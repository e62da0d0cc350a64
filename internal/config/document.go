package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// notYet is the sentence for a key of the contract that this version refuses.
const notYet = "not in this version"

// document is one decoded TOML file.
type document struct {
	file   string
	report *report
}

// table is one table of a document: the values in it and where they stand.
type table struct {
	*document
	name   string // in the list of keys: "grant"
	label  string // in messages, where it is not the name: "kms.main"
	values map[string]any
	pos    *position
	// hasUnknown says that the table has an unknown key, which may be a misspelt required one.
	hasUnknown bool
}

// value is a key's value and where it comes from.
type value[T any] struct {
	v      T
	set    bool
	line   int
	origin string // empty: the default
}

// from returns the origin as people read it.
func (v value[T]) from() string { return cmp.Or(v.origin, "default") }

// decode reads a TOML file. If it is not TOML, it reports that and returns nil.
func decode(file, text string, r *report) *table {
	text = strings.TrimPrefix(text, "\ufeff") // a byte order mark, which TOML allows
	for i, line := range strings.Split(text, "\n") {
		if !utf8.ValidString(line) {
			r.add(&Error{File: file, Line: i + 1, Message: "this is not UTF-8"})
			return nil
		}
	}
	var values map[string]any
	if _, err := toml.Decode(text, &values); err != nil {
		r.add(syntaxError(file, err))
		return nil
	}
	return &table{document: &document{file: file, report: r}, values: values, pos: locate(text)}
}

// quotedText is text that the decoder quotes from the file.
var quotedText = regexp.MustCompile(`"(?:[^"\\]|\\.){2,}"|'(?:[^'\\]|\\.){4,}'`)

// syntaxError turns the decoder's error into ours. What the decoder quotes could
// be a secret that somebody forgot to quote, and is left out, unless it is a key.
func syntaxError(file string, err error) *Error {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return &Error{File: file, Message: "this is not TOML"}
	}
	e := &Error{File: file, Line: max(parse.Position.Line, 1), Key: parse.LastKey,
		Message: "this is not TOML: " + parse.Message}
	if !strings.HasSuffix(parse.Message, "has already been defined.") {
		e.Message = quotedText.ReplaceAllString(e.Message, "[left out]")
	}
	if strings.HasPrefix(parse.Message, "expected value but found") {
		e.Hint = "put text in quotes"
	}
	return e
}

// key returns a key as messages show it.
func (t *table) key(name string) string {
	if t.name == "" {
		return name
	}
	return cmp.Or(t.label, t.name) + "." + name
}

// require reports a key that is not there.
func (t *table) require(name, message, hint string) {
	if _, ok := t.values[name]; !ok && !t.hasUnknown {
		t.fail(name, message, hint)
	}
}

// fail reports what is wrong with a key of the table.
func (t *table) fail(name, message, hint string) {
	t.report.add(&Error{
		File: t.file, Line: t.pos.at(name).line, Key: t.key(name), Message: message, Hint: hint,
	})
}

// unknown reports every key that the contract does not have.
func (t *table) unknown() {
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(known(t.name), name) {
			t.hasUnknown = true
			t.fail(name, "unknown key", suggest(t.name, name))
		}
	}
}

// sub returns the table under a key of the top level; an empty one if it is not
// there.
func (t *table) sub(name string) *table {
	s := &table{document: t.document, name: name, pos: t.pos.at(name)}
	switch v := t.values[name].(type) {
	case nil:
	case map[string]any:
		s.values = v
		s.unknown()
	default:
		t.fail(name, fmt.Sprintf("expected a table, got %s", kind(v)),
			fmt.Sprintf("write [%s] on a line of its own", name))
	}
	return s
}

// subs returns the tables [name.X] by X, a name that the user has chosen.
func (t *table) subs(name string) map[string]*table {
	named, ok := t.values[name].(map[string]any)
	if !ok && t.values[name] != nil {
		t.fail(name, fmt.Sprintf("expected a table, got %s", kind(t.values[name])),
			fmt.Sprintf("write [%s.NAME] on a line of its own", name))
	}
	found := map[string]*table{}
	for key, v := range named {
		values, ok := v.(map[string]any)
		s := &table{
			document: t.document, name: name, label: name + "." + key, values: values,
			pos: t.pos.at(name).at(key),
		}
		if !ok {
			t.report.add(&Error{
				File: t.file, Line: s.pos.line, Key: s.label,
				Message: fmt.Sprintf("expected a table, got %s", kind(v)),
				Hint:    "write [" + name + ".NAME] on a line of its own, and this key below it",
			})
			continue
		}
		s.unknown()
		found[key] = s
	}
	return found
}

// array returns the tables of an array of tables.
func (t *table) array(name string) []*table {
	var found []*table
	add := func(i int, values map[string]any) {
		s := &table{document: t.document, name: name, values: values, pos: t.pos.at(name).elem(i)}
		s.unknown()
		found = append(found, s)
	}
	wrong := func(v any) {
		t.fail(name, fmt.Sprintf("expected an array of tables, got %s", kind(v)),
			fmt.Sprintf("write [[%s]] with two brackets", name))
	}
	switch v := t.values[name].(type) {
	case nil:
	case []map[string]any:
		for i, values := range v {
			add(i, values)
		}
	case []any:
		for i, elem := range v {
			values, ok := elem.(map[string]any)
			if !ok {
				wrong(v)
				return nil
			}
			add(i, values)
		}
	default:
		wrong(v)
	}
	return found
}

// check looks at a value of the right type; it returns what is wrong with it and
// what to do, or nothing.
type check[T any] func(T) (message, hint string)

// read takes a key's value, if it is there, of the right type and passes the
// checks. Otherwise `to` keeps its default.
func read[T any](t *table, name, expected string, to *value[T], checks ...check[T]) {
	raw, ok := t.values[name]
	if !ok {
		return
	}
	v, ok := raw.(T)
	if !ok {
		t.fail(name, fmt.Sprintf("expected %s, got %s", expected, kind(raw)), "")
		return
	}
	for _, check := range checks {
		if message, hint := check(v); message != "" {
			t.fail(name, message, hint)
			return
		}
	}
	line := t.pos.at(name).line
	*to = value[T]{v: v, set: true, line: line, origin: fmt.Sprintf("%s:%d", t.file, line)}
}

func (t *table) text(name string, to *value[string], checks ...check[string]) {
	read(t, name, "a string", to, append([]check[string]{noNUL}, checks...)...)
}

func (t *table) boolean(name string, to *value[bool], checks ...check[bool]) {
	read(t, name, "true or false", to, checks...)
}

// texts reads an array of strings.
func (t *table) texts(name string, to *value[[]string]) {
	raw := value[[]any]{}
	read(t, name, "an array of strings", &raw)
	if !raw.set {
		return
	}
	texts := make([]string, 0, len(raw.v))
	for i, elem := range raw.v {
		text, ok := elem.(string)
		message := ""
		switch {
		case !ok:
			message = fmt.Sprintf("expected an array of strings, got %s in it", kind(elem))
		case text == "":
			message = "it contains an empty string"
		case strings.ContainsRune(text, 0):
			message = "it contains a NUL"
		}
		if message != "" {
			t.report.add(&Error{File: t.file, Line: t.pos.at(name).elem(i).line, Key: t.key(name),
				Message: message})
			return
		}
		texts = append(texts, text)
	}
	*to = value[[]string]{v: texts, set: true, line: raw.line, origin: raw.origin}
}

// duration reads a string such as "5s" that lies within [least, most].
func (t *table) duration(name string, to *value[time.Duration], least, most time.Duration) {
	const hint = `a number and a unit in quotes: "500ms", "5s", "1m"`
	raw := value[string]{}
	if v, ok := t.values[name]; ok {
		if _, ok := v.(string); !ok {
			t.fail(name, fmt.Sprintf("expected a duration, got %s", kind(v)), hint)
			return
		}
	}
	t.text(name, &raw)
	if !raw.set {
		return
	}
	d, err := time.ParseDuration(raw.v)
	switch {
	case err != nil:
		t.fail(name, "this is not a duration", hint)
	case d < least || d > most:
		t.fail(name, fmt.Sprintf("out of range: it may be %s to %s", short(least), short(most)), "")
	default:
		*to = value[time.Duration]{v: d, set: true, line: raw.line, origin: raw.origin}
	}
}

// integer reads an integer that lies within [least, most].
func (t *table) integer(name string, to *value[int64], least, most int64) {
	read(t, name, "an integer", to, func(v int64) (string, string) {
		if v < least || v > most {
			return fmt.Sprintf("out of range: it may be %d to %d", least, most), ""
		}
		return "", ""
	})
}

// refuse reports a key whose value does not mean the same as leaving the key out.
func (t *table) refuse(name string, harmless ...any) {
	v, ok := t.values[name]
	if !ok {
		return
	}
	switch v.(type) {
	case string, bool, int64:
	default: // not comparable, so it cannot be one of the harmless values
		t.fail(name, notYet, "")
		return
	}
	if !slices.Contains(harmless, v) {
		t.fail(name, notYet, "")
	}
}

// oneOf allows the given texts only.
func oneOf(allowed ...string) check[string] {
	return func(v string) (string, string) {
		if slices.Contains(allowed, v) {
			return "", ""
		}
		return "it may be " + quotedOr(allowed), ""
	}
}

// quotedOr lists texts as a sentence does: "a", "b" or "c".
func quotedOr(texts []string) string {
	var b strings.Builder
	for i, text := range texts {
		switch {
		case i == 0:
		case i == len(texts)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", text)
	}
	return b.String()
}

func noNUL(v string) (string, string) {
	if strings.ContainsRune(v, 0) {
		return "it contains a NUL", ""
	}
	return "", ""
}

// kind names the type of a TOML value.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	case []any:
		return "an array"
	default:
		return "something else"
	}
}

// short writes a duration without its zero parts: 5m rather than 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
