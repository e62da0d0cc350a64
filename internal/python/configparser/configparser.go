// Package configparser reads files as Python's ConfigParser does, in the strict mode and
// with the basic interpolation that Airflow uses. Its errors never show the text, which
// may be secret.
package configparser

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/python"
)

// defaultSection is the section from which every other section inherits its options.
const defaultSection = "DEFAULT"

// Limits of the interpolation. Python has the first; without the others it would work on
// some values for years.
const (
	maxDepth      = 10      // of %(name)s in what another %(name)s stands for
	maxReferences = 10_000  // of one value
	maxText       = 1 << 20 // bytes of a value
)

// ParseError is a line that ConfigParser refuses. Its text never holds the line itself,
// which may be a misplaced secret.
type ParseError struct {
	File    string
	Line    int
	Message string
}

// Error implements error: "file:line: message".
func (e *ParseError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message) }

// option is one option before interpolation.
type option struct {
	text string
	line int
}

// Document is a parsed file: options by section and name, both of them case-sensitive.
// The zero Document is an empty file.
type Document struct {
	// File is the path that [Parse] was given.
	File     string
	sections map[string]map[string]option
}

// Parse reads text as Python's ConfigParser does: `=` or `:` after a name, comments on
// lines of their own, and values that go on over indented lines and the blank lines between
// them. file is for the errors, which are of type *[ParseError].
func Parse(file, text string) (*Document, error) {
	d := &Document{File: file, sections: map[string]map[string]option{}}
	fail := func(line int, format string, args ...any) error {
		return &ParseError{File: file, Line: line, Message: fmt.Sprintf(format, args...)}
	}
	if strings.HasPrefix(text, "\ufeff") {
		return nil, fail(1, "the file begins with a UTF-8 byte order mark, which Airflow refuses")
	}
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)

	var (
		section map[string]option // nil before the first header
		name    string            // of the option that a continuation line adds to
		open    bool              // whether there is one
		lines   []string          // of its value
		indent  int               // of the line on which it began
		first   error             // of a stray line; Python rather reports a later repetition
	)
	finish := func() {
		if open {
			o := section[name]
			o.text = strings.TrimRightFunc(strings.Join(lines, "\n"), python.IsSpace)
			section[name] = o
		}
		open = false
	}
	for i, line := range strings.Split(text, "\n") {
		number := i + 1
		if !utf8.ValidString(line) {
			return nil, fail(number, "the line is not UTF-8")
		}
		value := strings.TrimFunc(line, python.IsSpace)
		if value == "" {
			if open {
				lines = append(lines, "")
			}
			continue
		}
		if value[0] == '#' || value[0] == ';' {
			continue
		}
		unindented := strings.TrimLeftFunc(line, python.IsSpace)
		level := utf8.RuneCountInString(line) - utf8.RuneCountInString(unindented)
		if open && level > indent {
			lines = append(lines, value)
			continue
		}
		finish()
		indent = level
		if header, ok := sectionHeader(value); ok {
			if _, twice := d.sections[header]; twice && header != defaultSection {
				return nil, fail(number, "section [%s] is defined a second time", header)
			}
			if d.sections[header] == nil {
				d.sections[header] = map[string]option{}
			}
			section = d.sections[header]
			continue
		}
		if section == nil {
			return nil, fail(number, "text before the first [section]")
		}
		at := strings.IndexAny(value, "=:")
		if at <= 0 {
			if first == nil {
				first = fail(number, "the line is neither a section, an option, a comment "+
					"nor the indented continuation of a value")
			}
			continue
		}
		name = strings.TrimRightFunc(value[:at], python.IsSpace)
		if _, twice := section[name]; twice {
			return nil, fail(number, "option %q is set a second time", name)
		}
		section[name] = option{line: number}
		lines, open = []string{strings.TrimFunc(value[at+1:], python.IsSpace)}, true
	}
	finish()
	if first != nil {
		return nil, first
	}
	return d, nil
}

// sectionHeader returns the name in a header: everything up to the last `]`. The rest of
// the line is ignored.
func sectionHeader(line string) (string, bool) {
	end := strings.LastIndexByte(line, ']')
	if line[0] != '[' || end < 2 {
		return "", false
	}
	return line[1:end], true
}

// find returns an option before interpolation. Every section that exists inherits the
// options of [DEFAULT].
func (d *Document) find(section, name string) (option, bool) {
	options, ok := d.sections[section]
	if !ok {
		return option{}, false
	}
	if o, ok := options[name]; ok {
		return o, true
	}
	o, ok := d.sections[defaultSection][name]
	return o, ok
}

// Option is the name of an option, and the line on which it is.
type Option struct {
	Name string
	Line int
}

// Options returns the options that stand in a section, by their lines. Those that it inherits are
// not among them.
func (d *Document) Options(section string) []Option {
	var all []Option
	for name, o := range d.sections[section] {
		all = append(all, Option{name, o.line})
	}
	slices.SortFunc(all, func(a, b Option) int { return cmp.Compare(a.Line, b.Line) })
	return all
}

// Get returns an option's value with %(name)s and %% resolved, and the line on which it is.
// ok is false if there is no such option. A bad reference, a *[ParseError], fails only the
// option that holds it; line is set then too.
func (d *Document) Get(section, name string) (text string, line int, ok bool, err error) {
	o, ok := d.find(section, name)
	if !ok {
		return "", 0, false, nil
	}
	i := interpolation{Document: d, section: section}
	if err := i.add(o.text, 1); err != nil {
		return "", o.line, false, &ParseError{File: d.File, Line: o.line, Message: err.Error()}
	}
	return i.String(), o.line, true, nil
}

// interpolation is the value of an option while its references are resolved.
type interpolation struct {
	*Document
	strings.Builder
	section    string
	references int
}

// add appends text with its references resolved.
func (i *interpolation) add(text string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("references are nested more than %d deep", maxDepth)
	}
	for {
		before, rest, found := strings.Cut(text, "%")
		i.WriteString(before)
		if !found {
			return nil
		}
		switch {
		case strings.HasPrefix(rest, "%"):
			i.WriteByte('%')
			text = rest[1:]
		case strings.HasPrefix(rest, "("):
			end := strings.IndexByte(rest, ')')
			if end < 2 || !strings.HasPrefix(rest[end:], ")s") {
				return errors.New("a reference is not written %(name)s")
			}
			o, ok := i.find(i.section, rest[1:end])
			if !ok {
				return errors.New("a %(name)s refers to an option that this section does not have")
			}
			if i.references++; i.references > maxReferences || i.Len() > maxText {
				return errors.New("the references in it make it too long")
			}
			if err := i.add(o.text, depth+1); err != nil {
				return err
			}
			text = rest[end+2:]
		default:
			return errors.New("a lone % must be written %%")
		}
	}
}
