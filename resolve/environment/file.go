package environment

import (
	"bytes"
	"strings"

	"github.com/connfs/connfs/conn"
)

// parseFile returns the AIRFLOW_CONN_* variables of a file of NAME=value lines.
//
// Lines end with a line feed; a carriage return before it, and blanks (spaces and
// tabs) around the line and around the value, do not count. An empty line and one
// that begins with # are skipped; "export " may stand before the name. The name
// runs to the first = and holds no blank. If the value begins with ' or ", it must
// end with the same mark; that pair is taken off and all between is the value:
// there are no escapes, no expansion, no comments behind a value, no continued
// lines. Of lines with one name the last counts. Other variables are skipped.
//
// A line of no such form makes the whole file invalid: nobody can tell whose
// connection it was meant to be. The error names the line and shows none of it.
func parseFile(path string, text []byte) (map[string]string, error) {
	variables := make(map[string]string)
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	number := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		number++
		line = strings.Trim(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "export"); ok && rest != "" &&
			(rest[0] == ' ' || rest[0] == '\t') {
			line = strings.TrimLeft(rest, " \t")
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, conn.Errorf(conn.Invalid, "environment", "%s:%d: not a NAME=value line",
				path, number)
		}
		value, ok = unquote(strings.TrimLeft(value, " \t"))
		if !ok {
			return nil, conn.Errorf(conn.Invalid, "environment",
				"%s:%d: the value begins with a quotation mark and does not end with it",
				path, number)
		}
		if strings.HasPrefix(name, connPrefix) {
			variables[name] = value
		}
	}
	return variables, nil
}

func unquote(value string) (string, bool) {
	if value == "" || value[0] != '\'' && value[0] != '"' {
		return value, true
	}
	if last := len(value) - 1; last > 0 && value[last] == value[0] {
		return value[1:last], true
	}
	return "", false
}
