package airflowcfg

import (
	"slices"
	"strings"
)

// Argument is one argument of a secrets backend that a variable of its own sets.
type Argument struct {
	Name   string // in small letters
	Text   string // raw, without any expansion; it may be secret
	Origin Origin
}

// Arguments returns the arguments that variables set one by one, as in Airflow 3.3:
// for [secrets] backend_kwargs, AIRFLOW__SECRETS__BACKEND_KWARG__TOKEN sets "token".
// They come sorted by name, and override what the option itself says.
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
		// The last one of a name counts.
		list = append(slices.DeleteFunc(list, func(b Argument) bool { return b.Name == a.Name }), a)
	}
	slices.SortFunc(list, func(a, b Argument) int { return strings.Compare(a.Name, b.Name) })
	return list
}
