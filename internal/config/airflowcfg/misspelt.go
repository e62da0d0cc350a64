package airflowcfg

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/spelling"
)

// secretsOptions are the options of [secrets] in Airflow 2 and 3.
var secretsOptions = []string{"backend", "backend_kwargs", "use_cache", "cache_ttl_seconds"}

// readOptions are the options that connfs reads, as section and name.
var readOptions = [][2]string{
	{"secrets", "backend"}, {"secrets", "backend_kwargs"},
	{"workers", "secrets_backend"}, {"workers", "secrets_backend_kwargs"},
	{"core", "fernet_key"}, {"core", "default_impersonation"}, {"core", "multi_team"},
	{"core", "sql_alchemy_conn"}, {"core", "sql_alchemy_schema"},
	{"database", "sql_alchemy_conn"}, {"database", "sql_alchemy_schema"},
}

// suffixes of an option say where its value comes from.
var suffixes = []string{"", "_cmd", "_secret"}

// underscores is one underscore, or several.
var underscores = regexp.MustCompile(`_+`)

// Misspelt returns a sentence for each option of the file's [secrets] and each variable that
// nothing reads, and whose name is like one that Airflow reads.
func (c *Config) Misspelt() []string {
	var known []string
	for _, suffix := range suffixes {
		for _, option := range secretsOptions {
			known = append(known, option+suffix)
		}
	}
	var found []string
	for _, o := range c.doc.Options("secrets") {
		if slices.Contains(known, o.Name) {
			continue
		}
		if question := spelling.DidYouMean(o.Name, known); question != "" {
			found = append(found, fmt.Sprintf("%s:%d: Airflow has no option [secrets] %s; %s",
				c.doc.File, o.Line, o.Name, question))
		}
	}
	for _, entry := range c.env {
		name, _, _ := strings.Cut(entry, "=")
		if meant := meantVariable(name); meant != "" && meant != name {
			found = append(found, fmt.Sprintf("Airflow does not read the variable %s; did you "+
				"mean %s?", name, meant))
		}
	}
	return found
}

// meantVariable returns the variable of an option that connfs reads with the same letters, with
// whatever number of underscores, and in either case; empty where there is none.
func meantVariable(name string) string {
	plain := func(s string) string { return underscores.ReplaceAllString(strings.ToUpper(s), "_") }
	if !strings.HasPrefix(strings.ToUpper(name), "AIRFLOW_") {
		return ""
	}
	for _, o := range readOptions {
		for _, suffix := range suffixes {
			variable := strings.ToUpper("AIRFLOW__" + o[0] + "__" + o[1] + suffix)
			if plain(variable) == plain(name) {
				return variable
			}
		}
	}
	return ""
}
