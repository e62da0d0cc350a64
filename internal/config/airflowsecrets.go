package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/config/airflowcfg"
	"github.com/connfs/connfs/internal/settings"
)

// alternative takes the alternative backend from Airflow where config.toml does not
// mention one: the backend for tasks, which [workers] names in Airflow 3, or else the one
// in [secrets]. Where one of them is connfs's own class, the other counts.
func (r *airflowReader) alternative(a *airflow) {
	secrets, err := r.cfg.Get(r.ctx, "secrets", "backend")
	if err != nil || secrets.Text != "" && !ownClass(secrets.Text) {
		// Airflow would ask that backend for options named by a _secret.
		r.cfg.Secret = func(string) (string, bool, error) {
			return "", false, errors.New("it asks the secrets backend for an option of Airflow's " +
				"configuration, which connfs does not do: set it in config.toml")
		}
	}
	if !a.alternative.set {
		workers := r.backend("workers", "secrets_backend", airflowWorkers)
		own := r.backend("secrets", "backend", airflowSecrets)
		a.alternative = own
		switch {
		case workers.backend == "":
		case ownClass(workers.backend) && own.backend != "" && !ownClass(own.backend):
			a.alternative.instead = workers.named()
		default:
			a.alternative = workers
			if ownClass(own.backend) {
				a.alternative.instead = own.named()
			} else if own.backend != "" {
				r.warn("%s (%s) is not searched: %s (%s), which tasks of Airflow 3 ask in its "+
					"place, is set",
					own.keys.backend, own.origin, workers.keys.backend, workers.origin)
			}
		}
	}
	s := &a.alternative
	if s.backend == "" || ownClass(s.backend) && s.keys != tomlSecrets {
		return
	}
	a.multiTeam = r.boolean("core", "multi_team")
	if s.keys == tomlSecrets {
		// Again, as the user that the children run as, who must be able to read what the
		// arguments name, and with what Airflow says about teams.
		r.checkAlternative(s, a.multiTeam.v)
	} else {
		before := len(r.errs)
		r.arguments(s)
		r.keepApart(s)
		if len(r.errs) == before {
			r.checkAlternative(s, a.multiTeam.v)
		}
	}
	a.secrets = s.settings(a.multiTeam.v)
}

// backend reads the option that names a backend.
func (r *airflowReader) backend(section, option string, keys secretsKeys) alternative {
	v, err := r.cfg.Get(r.ctx, section, option)
	if err != nil {
		r.failAirflow(section+"."+option, err)
	}
	return alternative{keys: keys, backend: v.Text, origin: v.Origin, set: v.Set}
}

// arguments reads a backend's arguments: the JSON of its kwargs, and over it, as in
// Airflow 3.3, what variables set one by one.
func (r *airflowReader) arguments(s *alternative) {
	section, option := "secrets", "backend_kwargs"
	if s.keys == airflowWorkers {
		section, option = "workers", "secrets_backend_kwargs"
	}
	v, err := r.cfg.Get(r.ctx, section, option)
	if err != nil {
		r.failAirflow(section+"."+option, err)
		return
	}
	s.arguments, err = parseArguments(v.Text, v.Origin)
	if err != nil {
		e := &Error{Key: s.keys.kwargs, Message: err.Error() + ": Airflow goes on without any " +
			"argument then, and would ask the wrong place"}
		place(e, v.Origin)
		r.add(e)
	}
	for _, one := range r.cfg.Arguments(section, option) {
		s.arguments = slices.DeleteFunc(s.arguments,
			func(a argument) bool { return a.name == one.Name })
		s.arguments = append(s.arguments, argument{one.Name, one.Text, one.Origin})
		if !utf8.ValidString(one.Text) {
			e := &arguments.Error{Argument: one.Name, Problem: "this is not UTF-8"}
			r.failArgument(s, e, "")
		}
	}
	slices.SortFunc(s.arguments, func(a, b argument) int { return strings.Compare(a.name, b.name) })
}

// keepApart keeps what root knows from a backend that a file of somebody else's names, or names an
// address or a file for. With its own arguments whoever wrote that file could log in anyway.
func (r *airflowReader) keepApart(s *alternative) {
	if !r.cfg.Foreign {
		return
	}
	var inFile, elsewhere airflowcfg.Origin
	for _, origin := range append([]airflowcfg.Origin{s.origin}, origins(s.arguments)...) {
		if origin.File != "" {
			inFile = origin
		} else {
			elsewhere = origin
		}
	}
	switch {
	case inFile.File == "":
	case elsewhere.Variable != "":
		e := &Error{
			Key: s.keys.backend,
			Message: fmt.Sprintf("%s is not root's own, and part of the backend stands there and "+
				"part in the variable %s", inFile.File, elsewhere.Variable),
			Hint: "set all of it in [secrets] of config.toml",
		}
		place(e, inFile)
		r.add(e)
	default:
		r.withhold(inFile.File, settings.LoginOfBackend)
	}
}

func origins(list []argument) []airflowcfg.Origin {
	all := make([]airflowcfg.Origin, len(list))
	for i, a := range list {
		all[i] = a.origin
	}
	return all
}

// withhold keeps login variables from what a file of somebody else's says.
func (r *airflowReader) withhold(file string, login func(name string) bool) {
	var names []string
	for _, entry := range r.Environ {
		name, _, _ := strings.Cut(entry, "=")
		if login(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	r.withheld = append(r.withheld, names...)
	if r.Withhold != nil {
		r.Withhold(names)
	}
	r.warn("%s is not root's own, and says where to log in: the children do not get %s of "+
		"connfs's environment; name the backend or the database in config.toml if they should",
		file, strings.Join(names, ", "))
}

// boolean reads an option that is true or false, by Airflow's rules; false where it is
// not set.
func (r *airflowReader) boolean(section, option string) value[bool] {
	text, err := r.cfg.Get(r.ctx, section, option)
	if err != nil {
		r.failAirflow(section+"."+option, err)
		return value[bool]{}
	}
	v := value[bool]{set: text.Set, line: text.Origin.Line, origin: text.Origin.String()}
	word, _, _ := strings.Cut(strings.ToLower(text.Text), "#")
	switch word = strings.TrimSpace(word); {
	case slices.Contains([]string{"t", "true", "1"}, word):
		v.v = true
	case text.Set && !slices.Contains([]string{"f", "false", "0"}, word):
		e := &Error{Key: "[" + section + "] " + option, Message: "it is neither true nor false"}
		place(e, text.Origin)
		r.add(e)
	}
	return v
}
