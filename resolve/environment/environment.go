// Package environment finds connections in AIRFLOW_CONN_* variables.
package environment

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// connPrefix is what the name of a variable that holds a connection begins with.
const connPrefix = "AIRFLOW_CONN_"

// Settings says where the AIRFLOW_CONN_* variables are.
type Settings struct {
	// File holds NAME=value lines and is read again when it changes. Empty:
	// Variables are used.
	File string
	// Variables are the AIRFLOW_CONN_* variables that connfs was started with.
	Variables []backend.Variable
	// Spellings are ids that the configuration spells out. The name of a variable does not tell
	// the case of its id: it is that of these, and lower case otherwise.
	Spellings []string
}

// Variables returns the variables of an environment block, lines of NAME=value, that
// hold connections. Of several with one name the first counts.
func Variables(environ []string) []backend.Variable {
	return backend.Masked(environ,
		func(name string) bool { return strings.HasPrefix(name, connPrefix) })
}

// Store is the backend of AIRFLOW_CONN_* variables: those that connfs was
// started with, or those of a file. An empty variable counts as absent, as in
// Airflow.
type Store struct {
	variables map[string]backend.Variable // by name; nil where file counts
	file      *backend.WatchedFile[map[string]string]
	spellings map[string][]string // ids by the variable that they stand in
}

// New returns the backend that settings describe. A file is not read
// before the first look-up.
func New(settings Settings) *Store {
	e := &Store{spellings: make(map[string][]string)}
	for _, id := range settings.Spellings {
		name := conn.EnvName(id)
		if !slices.Contains(e.spellings[name], id) {
			e.spellings[name] = append(e.spellings[name], id)
		}
	}
	if settings.File != "" {
		e.file = &backend.WatchedFile[map[string]string]{Path: settings.File, Source: "environment",
			Parse: parseFile}
		return e
	}
	e.variables = make(map[string]backend.Variable, len(settings.Variables))
	for _, v := range settings.Variables {
		e.variables[v.Name] = v
	}
	return e
}

// Connection implements [backend.Backend]. To Airflow all spellings of an id are one variable.
// Here the variable has the ids that List says, and no other: whether a caller may read an id is
// decided by how it is spelled, before this backend is asked.
func (e *Store) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	name := conn.EnvName(id)
	value, err := e.value(ctx, name)
	if err != nil {
		return nil, err
	}
	if value == "" {
		return nil, conn.Errorf(conn.Absent, "environment", "no variable holds it")
	}
	if ids := e.ids(name); !slices.Contains(ids, id) {
		return nil, &conn.Error{
			Kind: conn.Absent, Source: "environment",
			Reason: fmt.Sprintf("%s has the id %s, and ids are compared byte for byte",
				name, quoted(ids)),
			Hint: "a variable has the id of lower case, or the one that a [[grant]] spells",
		}
	}
	c, err := conn.Parse(value)
	if err != nil {
		return nil, backend.Invalid("environment", err)
	}
	return c, nil
}

// ids returns the ids of the connection in a variable: those that settings spell out, or else
// the one of small letters; none where no id leads to the variable.
func (e *Store) ids(name string) []string {
	if spelled := e.spellings[name]; len(spelled) > 0 {
		return spelled
	}
	id := strings.ToLower(strings.TrimPrefix(name, connPrefix))
	if conn.EnvName(id) != name {
		return nil
	}
	return []string{id}
}

// quoted joins ids for people.
func quoted(ids []string) string {
	if len(ids) == 0 {
		return "of no spelling that is known"
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.Quote(id)
	}
	return strings.Join(texts, " and ")
}

// List implements [backend.Lister].
func (e *Store) List(ctx context.Context) ([]string, error) {
	names, err := e.names(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		ids = append(ids, e.ids(name)...)
	}
	slices.Sort(ids)
	return ids, nil
}

// Local implements [backend.Local].
func (e *Store) Local() bool { return true }

// value returns the value of a variable, empty where it is not set.
func (e *Store) value(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", backend.ContextError("environment", err)
	}
	if e.file == nil {
		return e.variables[name].Value(), nil
	}
	variables, err := e.file.Read()
	return variables[name], err
}

// names returns the names of the variables that are not empty.
func (e *Store) names(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError("environment", err)
	}
	var names []string
	for name, v := range e.variables {
		if len(v.Masked) > 0 {
			names = append(names, name)
		}
	}
	if e.file == nil {
		return names, nil
	}
	variables, err := e.file.Read()
	for name, value := range variables {
		if value != "" {
			names = append(names, name)
		}
	}
	return names, err
}
