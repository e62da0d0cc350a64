package resolve

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

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
