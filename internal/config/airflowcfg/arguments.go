package airflowcfg

import (
	"slices"
	"strings"
)

// Argument is an argument of a secrets backend that has an environment variable of its own.
type Argument struct {
	Name   string // in lower case
	Text   string // without any expansion; it may be secret
	Origin Origin
}

// Arguments returns the arguments that variables set one by one, as in Airflow 3.3:
// for [secrets] backend_kwargs, AIRFLOW__SECRETS__BACKEND_KWARG__TOKEN sets "token".
// They are sorted by name, and take precedence over the option itself.
func (c *Config) Arguments(section, option string) []Argument {
	prefix := name{section, strings.Replace(option, "_kwargs", "_kwarg", 1)}.variable() + "__"
	var list []Argument
	for _, entry := range c.env {
		variable, text, _ := strings.Cut(entry, "=")
		key, ok := strings.CutPrefix(variable, prefix)
		if !ok || key == "" {
			continue
		}
		a := Argument{strings.ToLower(key), text, Origin{Kind: Variable, Variable: variable}}
		// The last variable of a name counts.
		list = append(slices.DeleteFunc(list, func(b Argument) bool { return b.Name == a.Name }), a)
	}
	slices.SortFunc(list, func(a, b Argument) int { return strings.Compare(a.Name, b.Name) })
	return list
}
