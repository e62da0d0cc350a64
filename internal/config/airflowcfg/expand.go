package airflowcfg

import (
	"errors"
	"os/user"
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// Limits of the expansion. In Airflow it never ends if a variable refers to itself.
const (
	maxRounds = 64
	maxText   = 1 << 20 // bytes
)

// errEndless is the error of an expansion that exceeds the limits.
var errEndless = errors.New("the $NAME references in it refer to themselves without end")

// Expand replaces $NAME, ${NAME} and a leading ~ or ~user again and again until
// nothing changes, as Airflow does with values from variables, from its file and from
// its defaults. Names that are not in env (NAME=value) stay as they are.
func Expand(text string, env []string) (string, error) {
	return expand(text, lookup(env))
}

func expand(text string, get func(string) (string, bool)) (string, error) {
	home := func(name string) (string, bool) { return homeOf(name, get) }
	for range maxRounds {
		next := python.ExpandUser(python.ExpandVars(text, get), home)
		if next == text {
			return text, nil
		}
		if text = next; len(text) > maxText {
			break
		}
	}
	return "", errEndless
}

// homeOf returns the home directory of a user of this machine; for "", the value of HOME.
func homeOf(name string, get func(string) (string, bool)) (string, bool) {
	if name == "" {
		return get("HOME")
	}
	u, err := user.Lookup(name)
	if err != nil {
		return "", false
	}
	return u.HomeDir, true
}

// lookup returns a function that finds a variable in env. Of several with the same name
// the last one counts.
func lookup(env []string) func(string) (string, bool) {
	values := make(map[string]string, len(env))
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			values[name] = value
		}
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}
