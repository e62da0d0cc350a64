package vault

import (
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/resolve/backend"
)

// pathArgument takes a path, without slashes at its ends or twice in a row, which Airflow's
// client takes out of a URL; empty where the argument is null.
func pathArgument(kw *arguments.Object, name, otherwise string) string {
	text, _ := kw.Optional(name, otherwise)
	return cleanPath(kw, name, text)
}

func cleanPath(kw *arguments.Object, name, text string) string {
	parts := slices.DeleteFunc(strings.Split(text, "/"),
		func(part string) bool { return part == "" })
	path := strings.Join(parts, "/")
	if path != "" && backend.CheckPathID(path) != nil {
		kw.Fail(name, "a path must not hold \".\", \"..\", a NUL or a line break as a part")
	}
	return path
}

// pathsArgument takes the paths of an argument that is a string, a list of strings, or null
// for none.
func pathsArgument(kw *arguments.Object, name, otherwise string) []string {
	if !kw.Has(name) {
		return []string{otherwise}
	}
	switch list := kw.Value(name).(type) {
	case nil:
		return nil
	case string:
		return []string{cleanPath(kw, name, list)}
	case []any:
		var all []string
		for _, item := range list {
			text, ok := item.(string)
			if !ok {
				break
			}
			all = append(all, cleanPath(kw, name, text))
		}
		if len(all) == len(list) {
			return all
		}
	}
	kw.Fail(name, "expected a string, a list of strings, or null")
	return nil
}
