package airflowcfg

import (
	"errors"
	"os/user"
	"strings"
)

// Limits of the expansion: Airflow repeats it for ever where a variable refers
// to itself.
const (
	maxRounds = 64
	maxText   = 1 << 20
)

// errEndless says that the expansion of a value does not come to an end.
var errEndless = errors.New("the $NAME references in it refer to themselves without end")

// Expand replaces $NAME, ${NAME} and a leading ~ or ~user again and again until
// nothing changes, as Airflow does with values of variables, of its file and of
// its defaults. Names that env (NAME=value) does not hold stay as they are.
func Expand(text string, env []string) (string, error) {
	return expand(text, lookup(env))
}

func expand(text string, get func(string) (string, bool)) (string, error) {
	for range maxRounds {
		next := expandUser(expandVars(text, get), get)
		if next == text {
			return text, nil
		}
		if text = next; len(text) > maxText {
			break
		}
	}
	return "", errEndless
}

// expandVars replaces $NAME and ${NAME} once, without looking at what it put in.
func expandVars(text string, get func(string) (string, bool)) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, size := variableName(rest)
		if value, ok := get(name); ok && size > 0 {
			b.WriteString(value)
		} else {
			b.WriteString("$" + rest[:size])
		}
		text = rest[size:]
	}
}

// variableName returns the name that rest, the text after a `$`, begins with,
// and how many bytes it takes with its braces: 0 if there is none.
func variableName(rest string) (name string, size int) {
	if strings.HasPrefix(rest, "{") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return "", 0
		}
		return rest[1:end], end + 1
	}
	for size < len(rest) && isWord(rest[size]) {
		size++
	}
	return rest[:size], size
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// expandUser replaces a leading ~ or ~user; an unknown user stays.
func expandUser(text string, get func(string) (string, bool)) string {
	if !strings.HasPrefix(text, "~") {
		return text
	}
	name, rest := text[1:], ""
	if i := strings.IndexByte(text, '/'); i > 0 {
		name, rest = text[1:i], text[i:]
	}
	home, ok := "", false
	if name == "" {
		home, ok = get("HOME")
	} else if u, err := user.Lookup(name); err == nil {
		home, ok = u.HomeDir, true
	}
	if !ok {
		return text
	}
	if home = strings.TrimRight(home, "/") + rest; home == "" {
		return "/"
	}
	return home
}

// lookup returns a function that finds a variable in env; the last one of a
// name counts.
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
