package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/config/airflowcfg"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/backend"
)

// alternative is an alternative backend as a configuration names it.
type alternative struct {
	keys      secretsKeys
	backend   string // a short name or a class path; empty: none
	origin    airflowcfg.Origin
	arguments []argument
	set       bool   // a configuration names it, or says that there is no such backend
	instead   string // what names connfs's own class, in place of which this counts; or empty
}

// named returns the key that names the backend, and where it stands.
func (s *alternative) named() string { return fmt.Sprintf("%s (%s)", s.keys.backend, s.origin) }

// secretsKeys are the keys by which messages name an alternative backend.
type secretsKeys struct{ backend, kwargs string }

// The places that can name an alternative backend.
var (
	tomlSecrets    = secretsKeys{"secrets.backend", "secrets.backend_kwargs"}
	airflowSecrets = secretsKeys{"[secrets] backend", "[secrets] backend_kwargs"}
	airflowWorkers = secretsKeys{"[workers] secrets_backend", "[workers] secrets_backend_kwargs"}
)

// readSecrets reads [secrets].
func (l *loader) readSecrets(root *table, f *file) {
	before := len(l.errs)
	t, s := root.sub("secrets"), &f.secrets
	s.keys = tomlSecrets
	var backend value[string]
	t.text("backend", &backend)
	s.backend, s.set = backend.v, backend.set
	s.origin = airflowcfg.Origin{Kind: airflowcfg.File, File: t.file, Line: backend.line}

	switch v := t.values["backend_kwargs"].(type) {
	case nil:
	case map[string]any:
		l.readArguments(t, v, s)
	case string:
		// Airflow's own form. It can hold a null, which TOML cannot.
		line := t.pos.at("backend_kwargs").line
		origin := airflowcfg.Origin{Kind: airflowcfg.File, File: t.file, Line: line}
		list, err := parseArguments(v, origin)
		if err != nil {
			t.fail("backend_kwargs", err.Error(), "a table, or the text of a JSON object")
		}
		s.arguments = list
	default:
		t.fail("backend_kwargs", fmt.Sprintf("expected a table, got %s", kind(v)), `{ connections_prefix = "/airflow/connections" }`)
	}
	if len(s.arguments) > 0 && s.backend == "" {
		if _, named := t.values["backend"]; !named || backend.set {
			t.fail("backend_kwargs", "there is no backend that these arguments are for",
				"set secrets.backend; where config.toml does not, backend and arguments both "+
					"come from Airflow's configuration")
		}
	}
	if f.info.Mode()&othersRead != 0 {
		for _, a := range s.arguments {
			if holdsSecret(a.name, a.value) {
				l.failArgument(s, &arguments.Error{
					Argument: a.name, Problem: "a secret in a file that everybody can read",
				}, "run: chmod o-rwx "+f.path)
			}
		}
	}
	if s.backend != "" && len(l.errs) == before {
		l.checkAlternative(s, false)
	}
}

// readArguments takes a table as arguments.
func (l *loader) readArguments(t *table, values map[string]any, s *alternative) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		line := t.pos.at("backend_kwargs").at(name).line
		origin := airflowcfg.Origin{Kind: airflowcfg.File, File: t.file, Line: line}
		v, err := jsonValue(values[name])
		s.arguments = append(s.arguments, argument{name, v, origin})
		if err != nil {
			l.failArgument(s, &arguments.Error{Argument: name, Problem: err.Error()}, "")
		}
	}
}

// failArgument reports what is wrong with one argument, where that argument stands.
func (l *loader) failArgument(s *alternative, wrong *arguments.Error, hint string) {
	e := &Error{Key: s.keys.kwargs + "." + wrong.Name(), Message: wrong.Problem, Hint: hint}
	origin := s.origin
	for _, a := range s.arguments {
		if a.name == wrong.Argument {
			origin = a.origin
		}
	}
	place(e, origin)
	l.add(e)
}

// Classes of Airflow's own that need no alternative backend.
const (
	environmentClass = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"
	metastoreClass   = "airflow.secrets.metastore.MetastoreBackend"
)

// ownModule is the Python module with connfs's own class for Airflow, which reads connections
// from a mount. Every Airflow that uses it names it in the configuration that connfs reads.
const ownModule = "connfs_airflow"

// ownClass reports whether a backend is that class: asked for a connection, connfs would ask
// itself.
func ownClass(backend string) bool { return strings.HasPrefix(backend, ownModule+".") }

// classPath matches a backend's name that can be shown: anything else may hold a secret.
var classPath = regexp.MustCompile(`^[A-Za-z_][\w.]*$`)

// checkAlternative reports what is wrong with an alternative backend, without connecting
// to it. A connection that only it holds would otherwise seem absent.
func (l *loader) checkAlternative(s *alternative, multiTeam bool) {
	fail := func(message, hint string) {
		e := &Error{Key: s.keys.backend, Message: message, Hint: hint}
		place(e, s.origin)
		l.add(e)
	}
	switch {
	case s.backend == environmentClass:
		return // always in the path: see alternative.settings
	case ownClass(s.backend) && s.keys == tomlSecrets:
		fail("this class is connfs itself, as Airflow sees it",
			"name the store that has the connections")
		return
	case s.backend == metastoreClass:
		fail("the metastore is in the path without being named, and named here Airflow asks it "+
			"before the environment, which connfs does not",
			`leave it out, or set backend = "" under [secrets] of config.toml`)
		return
	}
	if _, err := all.AlternativeName(s.backend); err != nil {
		what := "this class"
		if classPath.MatchString(s.backend) {
			what = s.backend
		}
		if !strings.Contains(s.backend, ".") {
			fail(err.Error(), "")
			return
		}
		fail("connfs does not have "+what+", and a connection that only it holds would seem absent",
			`under [secrets] of config.toml: backend = "exec" with a program that asks it, or backend = "" to go on without it`)
		return
	}
	l.failArguments(s, all.CheckSecrets(s.settings(multiTeam)))
}

// failArguments reports what [all.CheckSecrets] found, argument by argument.
func (l *loader) failArguments(s *alternative, err error) {
	var several interface{ Unwrap() []error }
	var one *arguments.Error
	switch {
	case err == nil:
	case errors.As(err, &several):
		for _, err := range several.Unwrap() {
			l.failArguments(s, err)
		}
	case errors.As(err, &one):
		l.failArgument(s, one, "")
	default:
		e := &Error{Key: s.keys.kwargs, Message: err.Error()}
		place(e, s.origin)
		l.add(e)
	}
}

// settings returns what the resolver needs to know; nil where there is no alternative
// backend. Airflow's own EnvironmentVariablesBackend does not count as one: the environment
// is in the path anyway. Nor does connfs's own class.
func (s *alternative) settings(multiTeam bool) *backend.Secrets {
	if s.backend == "" || s.backend == environmentClass || ownClass(s.backend) {
		return nil
	}
	return &backend.Secrets{Backend: s.backend, Kwargs: kwargs(s.arguments), MultiTeam: multiTeam}
}

// why says why the alternative backend is searched, or not.
func (s *alternative) why(order value[string]) string {
	switch {
	case !s.set:
		return "not searched: [secrets] backend is not set"
	case s.backend == "":
		return fmt.Sprintf("not searched: %s is empty", s.named())
	case s.backend == environmentClass:
		return fmt.Sprintf("not searched: %s names the environment, which is in the path anyway",
			s.named())
	case ownClass(s.backend):
		return fmt.Sprintf("not searched: %s names connfs's own class, which would ask connfs "+
			"again; a store to search belongs under [secrets] of config.toml", s.named())
	}
	name, _ := all.AlternativeName(s.backend)
	in := ""
	switch {
	case s.instead != "":
		in = fmt.Sprintf(", since %s names connfs's own class", s.instead)
	case s.keys == airflowWorkers:
		in = ", which tasks of Airflow 3 ask in place of [secrets] backend"
	}
	then := "the metastore, then the environment"
	if order.v == "airflow" {
		then = "the environment, then the metastore"
	}
	return fmt.Sprintf("searched first: %s, of %s%s; after it %s: order = %q (%s)",
		name, s.named(), in, then, order.v, cmp.Or(order.origin, "default"))
}
