// Package arguments takes a JSON object apart whose members are the arguments of something:
// Airflow's backend_kwargs, the extra of a connection. Each argument is taken once, as what
// it must be. What is wrong is collected, so that all of it is reported at once, and no error
// shows a value, which may be a secret.
package arguments

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/connfs/connfs/internal/spelling"
)

// Error says what is wrong with one argument, or with what stands in it. It shows no value.
type Error struct {
	Argument string // its name
	Within   string // where in it, names with dots between them; empty: the argument itself
	Problem  string
}

// Error implements error: "argument: problem", or "argument.within: problem".
func (e *Error) Error() string { return e.Name() + ": " + e.Problem }

// Name returns the name of the argument, and after a dot where in it.
func (e *Error) Name() string { return join(e.Argument, e.Within) }

// join puts a dot between two names, where there are two.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "." + b
}

// Object is a JSON object that is being taken apart.
type Object struct {
	argument string // whose value it is part of; empty: it holds all arguments
	within   string // where in that one
	values   map[string]any
	used     map[string]bool
	wrong    *[]error // shared with the objects in it
}

// New returns an object with these members: what encoding/json makes of JSON. They are not
// changed.
func New(values map[string]any) *Object {
	return &Object{values: values, used: make(map[string]bool), wrong: new([]error)}
}

// Decode reads the text of one JSON object, numbers as they are written. A text without
// anything is an empty object, and so is null. The error says what it is instead, and shows
// nothing of it.
func Decode(text string) (map[string]any, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("it is not JSON from %s on", place(text, syntax.Offset-1))
		}
		return nil, errors.New("it is not JSON: its end is missing")
	}
	end := d.InputOffset()
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it is not JSON: something follows its end, at %s", place(text, end))
	}
	values, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, errors.New("it is not a JSON object")
	}
	return values, nil
}

// place names a byte of a text by its line and column, both from 1.
func place(text string, offset int64) string {
	before := text[:min(max(offset, 0), int64(len(text)))]
	return fmt.Sprintf("line %d, column %d", strings.Count(before, "\n")+1,
		len(before)-strings.LastIndexByte(before, '\n'))
}

// Has reports whether an argument is given, null included.
func (o *Object) Has(name string) bool {
	_, ok := o.values[name]
	return ok
}

// Value takes an argument of whatever type; nil where it is absent or null.
func (o *Object) Value(name string) any {
	o.used[name] = true
	return o.values[name]
}

// Take takes an argument of type T, which people call expected; otherwise where it is absent
// or null.
func Take[T any](o *Object, name, expected string, otherwise T) T {
	v := o.Value(name)
	if v == nil {
		return otherwise
	}
	t, ok := v.(T)
	if !ok {
		o.Fail(name, "expected %s", expected)
		return otherwise
	}
	return t
}

// Text takes a string; otherwise where it is absent or null.
func (o *Object) Text(name, otherwise string) string { return Take(o, name, "a string", otherwise) }

// Need takes a string that must be there and not be empty; problem says why.
func (o *Object) Need(name, problem string) string {
	text := o.Text(name, "")
	if text == "" {
		o.Fail(name, "%s", problem)
	}
	return text
}

// Optional takes a string that null disables: false where it is null.
func (o *Object) Optional(name, otherwise string) (text string, enabled bool) {
	if v, ok := o.values[name]; ok && v == nil {
		o.used[name] = true
		return "", false
	}
	return o.Text(name, otherwise), true
}

// Boolean takes true or false; otherwise where it is absent or null.
func (o *Object) Boolean(name string, otherwise bool) bool {
	return Take(o, name, "true or false", otherwise)
}

// Map takes a JSON object as it is; nil where it is absent or null.
func (o *Object) Map(name string) map[string]any {
	return Take[map[string]any](o, name, "an object", nil)
}

// List takes a JSON array; nil where it is absent or null.
func (o *Object) List(name string) []any { return Take[[]any](o, name, "a list", nil) }

// Object takes a JSON object that is taken apart in its turn; an empty one where it is absent
// or null. What is wrong in it is reported with the rest.
func (o *Object) Object(name string) *Object { return o.In(name, o.Value(name)) }

// In returns a value as an object that is taken apart, as if it were the argument of that
// name: an element of a list.
func (o *Object) In(name string, value any) *Object {
	values, ok := value.(map[string]any)
	if value != nil && !ok {
		o.Fail(name, "expected an object")
	}
	e := o.problem(name, "")
	return &Object{e.Argument, e.Within, values, make(map[string]bool), o.wrong}
}

// URL takes a URL of http or https; empty where it is absent, null or empty.
func (o *Object) URL(name string) string {
	text := o.Text(name, "")
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		o.Fail(name, "expected a URL that begins with http:// or https://")
		return ""
	}
	return text
}

// Number takes a number from 0 to a million; 0 where it is absent or null.
func (o *Object) Number(name string) float64 {
	f, ok := number(o.Value(name))
	if !ok || math.IsNaN(f) || f < 0 || f > 1e6 {
		o.Fail(name, "expected a number")
		return 0
	}
	return f
}

// Seconds takes a number of seconds, as Number.
func (o *Object) Seconds(name string) time.Duration {
	return time.Duration(o.Number(name) * float64(time.Second))
}

// Choice takes an integer that is one of the allowed ones; otherwise where it is absent, null
// or 0.
func (o *Object) Choice(name string, otherwise int, allowed ...int) int {
	f, ok := number(o.Value(name))
	switch {
	case ok && f == 0:
		return otherwise
	case ok && slices.Contains(allowed, int(f)) && float64(int(f)) == f:
		return int(f)
	}
	o.Fail(name, "expected one of %s", strings.Trim(fmt.Sprint(allowed), "[]"))
	return otherwise
}

// number returns a number of JSON, and 0 for null.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case nil:
		return 0, true
	case float64:
		return n, true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// Ignore accepts arguments that have no effect.
func (o *Object) Ignore(names ...string) {
	for _, name := range names {
		o.used[name] = true
	}
}

// Rest takes every argument that nobody has taken yet.
func (o *Object) Rest() map[string]any {
	all := maps.Clone(o.values)
	maps.DeleteFunc(all, func(name string, _ any) bool { return o.used[name] })
	for name := range all {
		o.used[name] = true
	}
	return all
}

// RefuseRest reports every argument that nobody has taken yet; null is as good as nothing.
func (o *Object) RefuseRest() {
	all := o.Rest()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name] != nil {
			o.Fail(name, "connfs cannot honour this argument")
		}
	}
}

// Fail reports what is wrong with an argument; the text must not show its value.
func (o *Object) Fail(name, format string, args ...any) {
	o.used[name] = true
	o.Add(o.problem(name, fmt.Sprintf(format, args...)))
}

// problem returns the error about a member of this object.
func (o *Object) problem(name, problem string) *Error {
	if o.argument == "" {
		return &Error{Argument: name, Problem: problem}
	}
	return &Error{Argument: o.argument, Within: join(o.within, name), Problem: problem}
}

// Add reports something else that is wrong; the text must not show a value.
func (o *Object) Add(wrong ...error) { *o.wrong = append(*o.wrong, wrong...) }

// Wrong returns everything that was reported so far.
func (o *Object) Wrong() []error { return slices.Clone(*o.wrong) }

// Err returns everything that is wrong, joined; what nobody took is wrong, too.
func (o *Object) Err() error {
	wrong := o.Wrong()
	// What was taken and is not there are the names that could have been meant.
	known := slices.Sorted(maps.Keys(o.used))
	known = slices.DeleteFunc(known, o.Has)
	for _, name := range slices.Sorted(maps.Keys(o.values)) {
		if !o.used[name] {
			problem := "connfs does not know this argument"
			if hint := spelling.DidYouMean(name, known); hint != "" {
				problem += "; " + hint
			}
			wrong = append(wrong, o.problem(name, problem))
		}
	}
	return errors.Join(wrong...)
}
