package python

import "strings"

// ExpandVars is Python's os.path.expandvars with the variables that get finds. It replaces
// $NAME and ${NAME} once, and does not expand the values. A variable that get does not find
// stays as it is.
func ExpandVars(text string, get func(name string) (string, bool)) string {
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

// variableName returns the name at the start of rest, the text after a `$`, and how many
// bytes it takes with its braces; 0 if there is no name.
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
	return c == '_' || '0' <= c && c <= '9' || isLetter(c)
}

// ExpandUser is Python's os.path.expanduser: it replaces a leading ~ or ~user by the home
// of that user; home gets "" for a ~ without a name. A user that home does not find stays
// as it is.
func ExpandUser(text string, home func(user string) (string, bool)) string {
	if !strings.HasPrefix(text, "~") {
		return text
	}
	end := strings.IndexByte(text, '/')
	if end < 0 {
		end = len(text)
	}
	dir, ok := home(text[1:end])
	if !ok {
		return text
	}
	if dir = strings.TrimRight(dir, "/") + text[end:]; dir == "" {
		return "/"
	}
	return dir
}
