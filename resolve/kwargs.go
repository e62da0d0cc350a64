package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// kwargs are the arguments of an alternative backend: a JSON object, as Airflow's
// backend_kwargs. What is wrong with them is collected, so that all of it is reported
// at once. No error shows a value, which may be a secret.
type kwargs struct {
	values map[string]any
	used   map[string]bool
	wrong  []error
}

// parseKwargs reads backend_kwargs. An empty text is no arguments.
func parseKwargs(text string) (*kwargs, error) {
	k := &kwargs{values: map[string]any{}, used: map[string]bool{}}
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

// has reports whether an argument is given, null included.
func (k *kwargs) has(name string) bool {
	_, ok := k.values[name]
	return ok
}

// get takes an argument of type T; null and absent give the default.
func get[T any](k *kwargs, name, expected string, otherwise T) T {
	k.used[name] = true
	v := k.values[name]
	if v == nil {
		return otherwise
	}
	t, ok := v.(T)
	if !ok {
		k.fail(name, "expected %s", expected)
		return otherwise
	}
	return t
}

// value takes an argument of whatever type; nil where it is absent or null.
func (k *kwargs) value(name string) any {
	k.used[name] = true
	return k.values[name]
}

// text returns a string; otherwise where it is absent or null.
func (k *kwargs) text(name, otherwise string) string { return get(k, name, "a string", otherwise) }

// optional returns a string that null disables: false where it is null.
func (k *kwargs) optional(name, otherwise string) (text string, enabled bool) {
	if v, ok := k.values[name]; ok && v == nil {
		k.used[name] = true
		return "", false
	}
	return k.text(name, otherwise), true
}

// boolean returns true or false.
func (k *kwargs) boolean(name string, otherwise bool) bool {
	return get(k, name, "true or false", otherwise)
}

// object returns a JSON object; nil where it is absent or null.
func (k *kwargs) object(name string) map[string]any {
	return get[map[string]any](k, name, "an object", nil)
}

// path returns a path without slashes at its ends or twice in a row, which Airflow's
// client takes out of a URL; empty where the argument is null.
func (k *kwargs) path(name, otherwise string) string {
	text, _ := k.optional(name, otherwise)
	return k.cleanPath(name, text)
}

func (k *kwargs) cleanPath(name, text string) string {
	parts := slices.DeleteFunc(strings.Split(text, "/"), func(part string) bool { return part == "" })
	path := strings.Join(parts, "/")
	if path != "" && checkPathID(path) != nil {
		k.fail(name, "a path must not hold \".\", \"..\", a NUL or a line break as a part")
	}
	return path
}

// paths returns the paths of an argument that is a string, a list of strings, or null for
// none.
func (k *kwargs) paths(name, otherwise string) []string {
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
	k.fail(name, "expected a string, a list of strings, or null")
	return nil
}

// choice returns an integer that is one of the allowed ones; null and 0 give the default.
func (k *kwargs) choice(name string, otherwise int, allowed ...int) int {
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
	k.fail(name, "expected one of %s", strings.Trim(fmt.Sprint(allowed), "[]"))
	return otherwise
}

// rest takes every argument that nobody has taken yet.
func (k *kwargs) rest() map[string]any {
	all := maps.Clone(k.values)
	maps.DeleteFunc(all, func(name string, _ any) bool { return k.used[name] })
	for name := range all {
		k.used[name] = true
	}
	return all
}

// ignore accepts arguments that concern something other than connections.
func (k *kwargs) ignore(names ...string) {
	for _, name := range names {
		k.used[name] = true
	}
}

// fail reports what is wrong with an argument; the text must not show its value.
func (k *kwargs) fail(name, format string, args ...any) {
	k.used[name] = true
	k.wrong = append(k.wrong, &ArgumentError{name, fmt.Sprintf(format, args...)})
}

// add reports something else that is wrong; the text must not show a value.
func (k *kwargs) add(wrong ...error) { k.wrong = append(k.wrong, wrong...) }

// err returns everything that is wrong, unknown arguments included.
func (k *kwargs) err() error {
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
