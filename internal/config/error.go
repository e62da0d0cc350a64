package config

import (
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a configuration. It never shows a value
// that may be secret.
type Error struct {
	File    string // empty: the command line or the environment
	Line    int    // 0: the file as a whole
	Key     string // such as "metastore.url"; empty: the file as a whole
	Message string
	Hint    string // what to do about it; may be empty
}

// Error implements error: "file:line: key: message (hint)", without the parts
// that are empty.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration, file by file and in
// the order of the lines. It is never empty.
type Errors []*Error

// Error implements error: one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find an [Error].
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// report collects errors and warnings.
type report struct {
	errs     Errors
	warnings []string
}

func (r *report) add(e *Error) { r.errs = append(r.errs, e) }

func (r *report) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// err returns the errors in order, or nil.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	rank := map[string]int{}
	for _, e := range r.errs {
		if _, seen := rank[e.File]; !seen {
			rank[e.File] = len(rank)
		}
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		if a.File != b.File {
			return rank[a.File] - rank[b.File]
		}
		return a.Line - b.Line
	})
	return r.errs
}
