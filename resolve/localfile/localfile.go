// Package localfile is Airflow's LocalFilesystemBackend: connections in one file.
package localfile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/python"
	"github.com/connfs/connfs/resolve/backend"
)

// source is the source that errors of [Store] name.
const source = "local_filesystem"

// Store is Airflow's LocalFilesystemBackend: all connections stand in one file,
// whose suffix says how it is written. The file counts as a whole, as it does to
// Airflow, which builds every connection of it at each look-up: one that cannot be
// built hides all the others. Airflow gives this backend no form for teams.
type Store struct {
	file *backend.WatchedFile[*content] // nil: no file is configured, and nothing is there
}

// content is what a file holds.
type content struct {
	entries map[string]conn.FileEntry
	ids     []string
}

// add builds one connection. The last of several with one id counts. An id that is no
// text cannot be asked for; its connection must be sound all the same. The error names the id.
func (l *content) add(id string, isText bool, value any) error {
	err := l.build(id, isText, value)
	var e *conn.Error
	if errors.As(err, &e) {
		return &conn.Error{Kind: e.Kind, Reason: fmt.Sprintf("the connection %q: %s", id, e.Reason),
			Hint: e.Hint, Err: err}
	}
	return err
}

func (l *content) build(id string, isText bool, value any) error {
	if list, ok := value.([]any); ok {
		switch len(list) {
		case 0:
			return nil
		case 1:
			value = list[0]
		default:
			return conn.Errorf(conn.Invalid, "", "one connection has several values")
		}
	}
	entry, err := conn.ParseFileEntry(id, value)
	if err != nil || !isText {
		return err
	}
	if _, ok := l.entries[id]; !ok {
		l.ids = append(l.ids, id)
	}
	l.entries[id] = entry
	return nil
}

// parsers read a file, by its suffix in small letters.
var parsers = map[string]func(text string, into *content) error{
	"env":  parseEnv,
	"json": parseJSON,
	"yaml": parseYAML,
	"yml":  parseYAML,
}

// Open is the [backend.Opener] of a [Store].
func Open(_ *backend.Secrets, kw *arguments.Object) (backend.Backend, error) {
	kw.Ignore("variables_file_path", "configs_file_path")
	path := kw.Text("connections_file_path", "")
	if path == "" {
		return &Store{}, nil
	}
	parse := parsers[strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])]
	switch {
	case !filepath.IsAbs(path):
		kw.Fail("connections_file_path", "the path must be absolute")
	case parse == nil:
		kw.Fail("connections_file_path", "the name must end in .env, .json, .yaml or .yml")
	}
	return newStore(path, parse), nil
}

func newStore(path string, parse func(string, *content) error) *Store {
	return &Store{&backend.WatchedFile[*content]{
		Path: path, Source: source,
		Parse: func(path string, text []byte) (*content, error) {
			all, err := parseText(string(text), parse)
			if err != nil {
				reason, hint := reasonOf(err)
				return nil, &conn.Error{Kind: conn.Invalid, Source: source,
					Reason: path + ": " + reason, Hint: hint, Err: err}
			}
			return all, nil
		},
	}}
}

// parseText reads a file as Python's open() does: UTF-8, and each kind of line break a
// line feed.
func parseText(text string, parse func(string, *content) error) (*content, error) {
	if !utf8.ValidString(text) {
		return nil, conn.Errorf(conn.Invalid, "", "the file is not UTF-8")
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	all := &content{entries: make(map[string]conn.FileEntry)}
	if err := parse(text, all); err != nil {
		return nil, err
	}
	return all, nil
}

// Connection implements [backend.Backend].
func (l *Store) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	all, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	entry, ok := all.entries[id]
	switch {
	case !ok:
		return nil, conn.Errorf(conn.Absent, source, "the file has no such connection")
	case entry.Err != nil:
		return nil, backend.Invalid(source, entry.Err)
	}
	c := *entry.Connection
	return &c, nil
}

// List implements [backend.Lister]: every id of the file, in its order.
func (l *Store) List(ctx context.Context) ([]string, error) {
	all, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	return append([]string(nil), all.ids...), nil
}

func (l *Store) read(ctx context.Context) (*content, error) {
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError(source, err)
	}
	if l.file == nil {
		return &content{}, nil
	}
	return l.file.Read()
}

// parseJSON reads one object of connections by id.
func parseJSON(text string, into *content) error {
	if text == "" {
		return conn.Errorf(conn.Invalid, "", "the file is empty")
	}
	// An entry's extra lies two levels below the text of the file.
	value, err := python.LoadJSON(text, python.MaxDepth+2)
	if err != nil {
		return conn.Errorf(conn.Invalid, "", "%v", err) // which shows nothing of the text
	}
	o, ok := value.(*python.Object)
	if !ok {
		return conn.Errorf(conn.Invalid, "", "the file does not hold an object")
	}
	for _, id := range o.Keys() {
		if err := into.add(id, true, o.Get(id)); err != nil {
			return err
		}
	}
	return nil
}

// parseEnv reads lines of ID=URI. Nothing is trimmed; an id that stands twice, a
// line without a value, and one of another form spoil the file.
func parseEnv(text string, into *content) error {
	lines := python.SplitLines(text)
	seen := make(map[string]bool)
	for i, line := range lines {
		// An empty line, or a comment, which blanks may precede.
		if line == "" || strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
			continue
		}
		id, value, ok := strings.Cut(line, "=")
		switch {
		case !ok || value == "":
			return conn.Errorf(conn.Invalid, "", "line %d is not ID=URI", i+1)
		case seen[id]:
			return conn.Errorf(conn.Invalid, "", "line %d: the id stands in the file already", i+1)
		}
		seen[id] = true
		if err := into.add(id, true, value); err != nil {
			reason, hint := reasonOf(err)
			return &conn.Error{Kind: conn.Invalid, Hint: hint,
				Reason: fmt.Sprintf("line %d: %s", i+1, reason)}
		}
	}
	return nil
}

// reasonOf returns why an error of package conn is one, and what to do about it.
func reasonOf(err error) (reason, hint string) {
	var ce *conn.Error
	if errors.As(err, &ce) {
		return ce.Reason, ce.Hint
	}
	return "the file cannot be read", ""
}

// Local implements [backend.Local].
func (l *Store) Local() bool { return true }
