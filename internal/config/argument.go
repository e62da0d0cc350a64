package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/config/airflowcfg"
)

// argument is one argument of an alternative backend: one key of its backend_kwargs.
type argument struct {
	name   string
	value  any // what encoding/json makes of JSON, numbers as they are written
	origin airflowcfg.Origin
}

// setting returns the argument as `connfs config` shows it.
func (a argument) setting(key string) Setting {
	secret := holdsSecret(a.name, a.value)
	s := Setting{Key: key, Value: a.value, Origin: a.origin.String(), Secret: secret}
	if text, ok := a.value.(string); s.Secret && ok {
		s.Value = conn.NewSecret(text)
	} else if s.Secret {
		text, _ := json.Marshal(a.value)
		s.Value = conn.NewSecret(string(text))
	}
	return s
}

// parseArguments reads backend_kwargs as Airflow writes it: the text of one JSON object.
// An empty text holds no arguments. Its error shows no value.
func parseArguments(text string, origin airflowcfg.Origin) ([]argument, error) {
	values, err := arguments.Decode(text)
	if err != nil {
		return nil, err
	}
	var list []argument
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, argument{name, values[name], origin})
	}
	return list, nil
}

// kwargs returns the arguments as backend_kwargs: the text of a JSON object.
func kwargs(list []argument) string {
	if len(list) == 0 {
		return ""
	}
	values := make(map[string]any, len(list))
	for _, a := range list {
		values[a.name] = a.value
	}
	text, _ := json.Marshal(values)
	return string(text)
}

// jsonValue turns a value of TOML into one of JSON.
func jsonValue(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return nil, errors.New("this is not UTF-8")
		}
	case bool, int64:
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("JSON has no such number")
		}
	case time.Time:
		return nil, errors.New("JSON has no dates: write it as text")
	case []any:
		list := make([]any, len(v))
		for i, elem := range v {
			one, err := jsonValue(elem)
			if err != nil {
				return nil, err
			}
			list[i] = one
		}
		return list, nil
	case []map[string]any:
		list := make([]any, len(v))
		for i, elem := range v {
			list[i] = elem
		}
		return jsonValue(list)
	case map[string]any:
		table := make(map[string]any, len(v))
		for key, elem := range v {
			one, err := jsonValue(elem)
			if err != nil {
				return nil, err
			}
			table[key] = one
		}
		return table, nil
	default:
		return nil, fmt.Errorf("JSON has nothing for %s", kind(v))
	}
	return v, nil
}

// secretWords are words in the names of arguments that hold secrets. placeEnds are the ends
// of names that only say where a secret is.
var (
	secretWords = []string{"token", "password", "passwd", "passphrase", "secret", "credential",
		"private_key", "privatekey", "keyfile", "environment"}
	placeEnds = []string{"_path", "_paths", "_file", "_url", "_arn", "_uri", "_type", "_prefix",
		"_mount_point", "_pattern"}
)

// holdsSecret reports whether an argument of a backend is a secret or holds one. It errs
// on the side of a secret.
func holdsSecret(name string, v any) bool {
	name = strings.ToLower(name)
	contained := func(word string) bool { return strings.Contains(name, word) }
	named := name == "env" || slices.ContainsFunc(secretWords, contained)
	last := func(end string) bool { return strings.HasSuffix(name, end) }
	place := slices.ContainsFunc(placeEnds, last)
	switch v := v.(type) {
	case string:
		if v == "" {
			return false
		}
		// A name of a file may have the file's content for a value, and a URL may hold
		// a password.
		return named && !place || strings.HasPrefix(strings.TrimSpace(v), "{") ||
			strings.Contains(v, "://") && holdsPassword(v)
	case []any:
		return slices.ContainsFunc(v, func(elem any) bool { return holdsSecret(name, elem) })
	case map[string]any:
		if named && !place && len(v) > 0 {
			return true
		}
		for key, elem := range v {
			if holdsSecret(key, elem) {
				return true
			}
		}
	}
	return false
}
