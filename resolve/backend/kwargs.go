package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kwargs are the arguments of an alternative backend: a JSON object, as Airflow's
// backend_kwargs. What is wrong with them is collected, so that all of it is reported
// at once. No error shows a value, which may be a secret.
type Kwargs struct {
	values map[string]any
	used   map[string]bool
	wrong  []error
}

// ParseKwargs reads backend_kwargs. An empty text is no arguments.
func ParseKwargs(text string) (*Kwargs, error) {
	k := &Kwargs{values: map[string]any{}, used: map[string]bool{}}
	if strings.TrimSpace(text) == "" {
		return k, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&k.values); err != nil || d.More() {
		return nil, errors.New("backend_kwargs is not one JSON object")
	}
	return k, nil
}

// Has reports whether an argument is given, null included.
func (k *Kwargs) Has(name string) bool {
	_, ok := k.values[name]
	return ok
}

// Take takes an argument of type T; null and absent give the default.
func Take[T any](k *Kwargs, name, expected string, otherwise T) T {
	k.used[name] = true
	v := k.values[name]
	if v == nil {
		return otherwise
	}
	t, ok := v.(T)
	if !ok {
		k.Fail(name, "expected %s", expected)
		return otherwise
	}
	return t
}

// Value takes an argument of whatever type; nil where it is absent or null.
func (k *Kwargs) Value(name string) any {
	k.used[name] = true
	return k.values[name]
}

// Text returns a string; otherwise where it is absent or null.
func (k *Kwargs) Text(name, otherwise string) string { return Take(k, name, "a string", otherwise) }

// Optional returns a string that null disables: false where it is null.
func (k *Kwargs) Optional(name, otherwise string) (text string, enabled bool) {
	if v, ok := k.values[name]; ok && v == nil {
		k.used[name] = true
		return "", false
	}
	return k.Text(name, otherwise), true
}

// Boolean returns true or false.
func (k *Kwargs) Boolean(name string, otherwise bool) bool {
	return Take(k, name, "true or false", otherwise)
}

// Object returns a JSON object; nil where it is absent or null.
func (k *Kwargs) Object(name string) map[string]any {
	return Take[map[string]any](k, name, "an object", nil)
}

// Path returns a path without slashes at its ends or twice in a row, which Airflow's
// client takes out of a URL; empty where the argument is null.
func (k *Kwargs) Path(name, otherwise string) string {
	text, _ := k.Optional(name, otherwise)
	return k.cleanPath(name, text)
}

func (k *Kwargs) cleanPath(name, text string) string {
	parts := slices.DeleteFunc(strings.Split(text, "/"), func(part string) bool { return part == "" })
	path := strings.Join(parts, "/")
	if path != "" && CheckPathID(path) != nil {
		k.Fail(name, "a path must not hold \".\", \"..\", a NUL or a line break as a part")
	}
	return path
}

// Paths returns the paths of an argument that is a string, a list of strings, or null for
// none.
func (k *Kwargs) Paths(name, otherwise string) []string {
	k.used[name] = true
	v, ok := k.values[name]
	switch list := v.(type) {
	case nil:
		if ok {
			return nil
		}
		return []string{otherwise}
	case string:
		return []string{k.cleanPath(name, list)}
	case []any:
		var all []string
		for _, item := range list {
			text, ok := item.(string)
			if !ok {
				break
			}
			all = append(all, k.cleanPath(name, text))
		}
		if len(all) == len(list) {
			return all
		}
	}
	k.Fail(name, "expected a string, a list of strings, or null")
	return nil
}

// Choice returns an integer that is one of the allowed ones; null and 0 give the default.
func (k *Kwargs) Choice(name string, otherwise int, allowed ...int) int {
	k.used[name] = true
	v := k.values[name]
	if v == nil {
		return otherwise
	}
	if number, ok := v.(json.Number); ok {
		f, err := number.Float64()
		if err == nil && f == 0 {
			return otherwise
		}
		if err == nil && slices.Contains(allowed, int(f)) && float64(int(f)) == f {
			return int(f)
		}
	}
	k.Fail(name, "expected one of %s", strings.Trim(fmt.Sprint(allowed), "[]"))
	return otherwise
}

// Rest takes every argument that nobody has taken yet.
func (k *Kwargs) Rest() map[string]any {
	all := maps.Clone(k.values)
	maps.DeleteFunc(all, func(name string, _ any) bool { return k.used[name] })
	for name := range all {
		k.used[name] = true
	}
	return all
}

// Ignore accepts arguments that concern something other than connections.
func (k *Kwargs) Ignore(names ...string) {
	for _, name := range names {
		k.used[name] = true
	}
}

// Fail reports what is wrong with an argument; the text must not show its value.
func (k *Kwargs) Fail(name, format string, args ...any) {
	k.used[name] = true
	k.wrong = append(k.wrong, &ArgumentError{name, fmt.Sprintf(format, args...)})
}

// Add reports something else that is wrong; the text must not show a value.
func (k *Kwargs) Add(wrong ...error) { k.wrong = append(k.wrong, wrong...) }

// Err returns everything that is wrong, unknown arguments included.
func (k *Kwargs) Err() error {
	wrong := slices.Clone(k.wrong)
	for _, name := range slices.Sorted(maps.Keys(k.values)) {
		if !k.used[name] {
			wrong = append(wrong, &ArgumentError{name, "connfs does not know this argument"})
		}
	}
	return errors.Join(wrong...)
}

// ArgumentError says what is wrong with one argument of an alternative backend. It
// shows no value.
type ArgumentError struct {
	Argument string
	Problem  string
}

// Error implements error: "argument: problem".
func (e *ArgumentError) Error() string { return e.Argument + ": " + e.Problem }
