// Package airflowcfg reads Airflow's own configuration: its airflow.cfg, its
// AIRFLOW__SECTION__OPTION variables, and the commands and secrets that both
// can name in place of a value. It follows Airflow 2.10 in the precedence of the
// sources, in what counts as set, and in which errors are fatal.
//
// The values may be secret, and so may every line that it reads: its errors
// say what is wrong and where, and never show the text.
package airflowcfg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/python/configparser"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// maxFile is the largest airflow.cfg that is read, in bytes.
const maxFile = 4 << 20

// Config is an Airflow's configuration. Its exported fields may be set between
// [Open] and the first [Config.Get].
type Config struct {
	// Secret asks the [secrets] backend for the key in a _secret option or variable. It
	// returns the value, and whether there is one. Nil: there is no backend,
	// and the next source counts, as in Airflow.
	Secret func(key string) (string, bool, error)

	// Only says which options count where the file has them; every other option, and every
	// _cmd and _secret, of the file is passed over, and so is Airflow's default database. Nil:
	// all of them count.
	Only func(section, option string) bool

	// Foreign says that those who write the file must not get what whoever set the variables
	// knows: what stands in the file, and a _cmd of it, gets AIRFLOW_HOME, AIRFLOW_CONFIG, HOME
	// and PATH, and no other variable.
	Foreign bool

	home string
	env  []string
	get  func(string) (string, bool)
	doc  *configparser.Document
	info fs.FileInfo
}

// Origin says where a value comes from.
type Origin struct {
	Kind     Kind
	Variable string // name of the environment variable; empty if the file decided
	File     string // path of the file; empty if a variable decided
	Line     int    // line in File
}

// Kind is the kind of source a value comes from.
type Kind uint8

// The kinds of source.
const (
	Default  Kind = iota // nothing is set: Airflow's default
	Variable             // an environment variable
	File                 // airflow.cfg
	Command              // the output of a _cmd
	Secret               // the answer of the [secrets] backend to a _secret
)

// String returns the origin as `connfs config` shows it: "default", "variable
// NAME", "file:line", "command of ..." or "secret of ...".
func (o Origin) String() string {
	at := fmt.Sprintf("%s:%d", o.File, o.Line)
	if o.Variable != "" {
		at = "variable " + o.Variable
	}
	switch o.Kind {
	case Default:
		return "default"
	case Command:
		return "command of " + at
	case Secret:
		return "secret of " + at
	default:
		return at
	}
}

// Value is an option's value. Text may be secret.
type Value struct {
	Text   string
	Set    bool // false: nothing sets it, and Text is Airflow's default
	Origin Origin
	// Nothing is the first source that was asked before and had nothing: a _cmd of the file
	// that printed nothing, or a _secret that no backend has. Airflow goes on to the next source
	// then. Of kind Default: there was none.
	Nothing Origin
	// Deprecated is the old name under which the value was found, such as
	// "[core] sql_alchemy_conn"; empty if it was found under the present one.
	Deprecated string
}

// Open reads the configuration of the Airflow whose home is home. The file is
// configFile, or else the one that AIRFLOW_CONFIG in env (NAME=value) names, or else
// airflow.cfg in home. A file that does not exist counts as empty. Within the
// configuration AIRFLOW_HOME means home, whatever env says. With an empty home
// and an empty configFile, only variables count. Where owners is not nil, a file that
// somebody else could change is an error, which holds a *[trust.Error].
func Open(home, configFile string, env []string, owners *trust.Owners) (*Config, error) {
	c := &Config{home: home, env: slices.Clone(env)}
	if home != "" {
		c.env = slices.DeleteFunc(c.env, func(entry string) bool {
			return strings.HasPrefix(entry, "AIRFLOW_HOME=")
		})
		c.env = append(c.env, "AIRFLOW_HOME="+home)
	}
	c.get = lookup(c.env)
	if configFile == "" && home != "" {
		configFile = filepath.Join(home, "airflow.cfg")
		if named, ok := c.get("AIRFLOW_CONFIG"); ok {
			expanded, err := expand(named, c.get)
			if err != nil {
				return nil, fmt.Errorf("expanding AIRFLOW_CONFIG: %w", err)
			}
			configFile = expanded
		}
	}
	c.doc = &configparser.Document{}
	if configFile == "" {
		return c, nil
	}
	if owners == nil {
		owners = trust.Anybody()
	}
	text, info, err := regularfile.Read(configFile, 0, maxFile, *owners)
	var large *regularfile.TooLargeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil
	case errors.Is(err, regularfile.ErrNotRegular), errors.As(err, &large):
		return nil, fmt.Errorf("reading Airflow's configuration: %s is %w", configFile, err)
	case err != nil:
		return nil, fmt.Errorf("reading Airflow's configuration: %w", err)
	}
	c.info = info
	c.doc, err = configparser.Parse(configFile, string(text))
	return c, err
}

// File returns the path of the file that was read and the result of fstat; empty and nil
// if there is no file.
func (c *Config) File() (string, fs.FileInfo) { return c.doc.File, c.info }

// Get returns an option's value, from the first of these sources that is set:
// the variable, its _CMD, its _SECRET, the same three under a deprecated name,
// the file, its _cmd, its _secret, the default.
func (c *Config) Get(ctx context.Context, section, option string) (Value, error) {
	v, err := c.find(ctx, section, option)
	if err != nil {
		return Value{}, err
	}
	switch section + "." + option {
	case "database.sql_alchemy_conn":
		v.Text = modernPostgres(v.Text)
	case "secrets.backend", "workers.secrets_backend":
		// Airflow imports it, so a name without a dot can never load.
		if v.Text != "" && !strings.Contains(v.Text, ".") {
			return Value{}, &OptionError{section, option, v.Origin, errNoClassPath}
		}
	}
	return v, nil
}

var errNoClassPath = errors.New("it is not the path of a class, and Airflow could not " +
	"load it; short names are for config.toml")

// OptionError says which option could not be read, and where it is set.
type OptionError struct {
	Section, Option string
	Origin          Origin
	Err             error
}

// Error implements error.
func (e *OptionError) Error() string {
	return fmt.Sprintf("[%s] %s: %s: %v", e.Section, e.Option, e.Origin, e.Err)
}

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// name is a name under which an option may be set.
type name struct{ section, option string }

func (n name) variable() string {
	section := strings.ReplaceAll(n.section, ".", "_")
	return "AIRFLOW__" + strings.ToUpper(section) + "__" + strings.ToUpper(n.option)
}

func (c *Config) find(ctx context.Context, section, option string) (Value, error) {
	present := name{section, option}
	names := []name{present}
	if old, ok := deprecated[present]; ok {
		names = append(names, old)
	}
	var nothing Origin
	type source func(context.Context, name, bool) (Value, error)
	ask := func(sources ...source) (Value, error) {
		for _, from := range sources {
			for _, n := range names {
				v, err := from(ctx, n, sensitive[present])
				if err != nil {
					return Value{}, &OptionError{section, option, v.Origin, err}
				}
				if v.Set {
					if n != present {
						v.Deprecated = fmt.Sprintf("[%s] %s", n.section, n.option)
					}
					v.Nothing = nothing
					return v, nil
				}
				if asked := v.Origin.Variable != "" || v.Origin.Line > 0; asked &&
					nothing.Kind == Default {
					nothing = v.Origin
				}
			}
		}
		return Value{}, nil
	}
	v, err := ask(c.fromVariables, c.fromFile, c.fromFileCommand, c.fromFileSecret)
	if err != nil || v.Set {
		return v, err
	}
	v, err = c.fromDefault(present)
	v.Nothing = nothing
	return v, err
}

// fromVariables reads the three variables of one name. An empty variable counts as
// set, and so does the empty output of a command.
func (c *Config) fromVariables(ctx context.Context, n name, secret bool) (Value, error) {
	variable := n.variable()
	if text, ok := c.get(variable); ok {
		text, err := expand(text, c.get)
		origin := Origin{Kind: Variable, Variable: variable}
		return Value{Text: text, Set: true, Origin: origin}, err
	}
	if !secret {
		return Value{}, nil
	}
	if line, ok := c.get(variable + "_CMD"); ok {
		text, err := run(ctx, line, c.env, whole(c.env))
		origin := Origin{Kind: Command, Variable: variable + "_CMD"}
		return Value{Text: text, Set: true, Origin: origin}, err
	}
	if key, ok := c.get(variable + "_SECRET"); ok {
		text, found, err := c.secret(key)
		origin := Origin{Kind: Secret, Variable: variable + "_SECRET"}
		return Value{Text: text, Set: found, Origin: origin}, err
	}
	return Value{}, nil
}

// fromFile reads the value itself from the file. An empty one counts as set.
func (c *Config) fromFile(_ context.Context, n name, _ bool) (Value, error) {
	if c.Only != nil && !c.Only(n.section, n.option) {
		return Value{}, nil
	}
	text, line, ok, err := c.doc.Get(n.section, n.option)
	origin := Origin{Kind: File, File: c.doc.File, Line: line}
	if err != nil || !ok {
		return Value{Origin: origin}, reason(err)
	}
	text, err = c.expandForeign(text)
	return Value{Text: text, Set: true, Origin: origin}, err
}

// ofFile are the variables that a foreign file gets.
var ofFile = []string{"AIRFLOW_HOME", "AIRFLOW_CONFIG", "HOME", "PATH"}

// expandForeign expands what stands in the file.
func (c *Config) expandForeign(text string) (string, error) {
	whole, err := expand(text, c.get)
	if err != nil || !c.Foreign {
		return whole, err
	}
	some, err := expand(text, lookup(c.fileEnv()))
	if err == nil && some != whole {
		err = errForeign
	}
	return some, err
}

var errForeign = errors.New("it names a variable of connfs's environment, which only a file " +
	"of root's gets")

// fileEnv returns the variables that what stands in the file gets.
func (c *Config) fileEnv() []string {
	if !c.Foreign {
		return c.env
	}
	return slices.DeleteFunc(slices.Clone(c.env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !slices.Contains(ofFile, name)
	})
}

// fromFileCommand runs the command that the file names. Unlike that of a
// variable, its empty output counts as not set.
func (c *Config) fromFileCommand(ctx context.Context, n name, secret bool) (Value, error) {
	if !secret || c.Only != nil {
		return Value{}, nil
	}
	line, number, ok, err := c.doc.Get(n.section, n.option+"_cmd")
	v := Value{Origin: Origin{Kind: Command, File: c.doc.File, Line: number}}
	if err != nil || !ok {
		return v, reason(err)
	}
	v.Text, err = run(ctx, line, c.env, narrow(c.fileEnv()))
	v.Set = v.Text != ""
	return v, err
}

// fromFileSecret asks the secrets backend for what the file names.
func (c *Config) fromFileSecret(_ context.Context, n name, secret bool) (Value, error) {
	if !secret || c.Only != nil {
		return Value{}, nil
	}
	key, number, ok, err := c.doc.Get(n.section, n.option+"_secret")
	v := Value{Origin: Origin{Kind: Secret, File: c.doc.File, Line: number}}
	if err != nil || !ok {
		return v, reason(err)
	}
	text, found, err := c.secret(key)
	v.Text, v.Set = text, found && text != ""
	return v, err
}

func (c *Config) fromDefault(n name) (Value, error) {
	text := defaults[n]
	if n == (name{"database", "sql_alchemy_conn"}) && (c.home == "" || c.Only != nil) {
		text = "" // no home, or none whose files count
	}
	text, err := expand(text, c.get)
	return Value{Text: text}, err
}

func (c *Config) secret(key string) (string, bool, error) {
	if c.Secret == nil {
		return "", false, nil
	}
	return c.Secret(key)
}

// reason returns the message of a configparser.ParseError without the file and line, which
// the caller's Origin holds.
func reason(err error) error {
	var parse *configparser.ParseError
	if errors.As(err, &parse) {
		return errors.New(parse.Message)
	}
	return err
}

// modernPostgres rewrites the schemes that SQLAlchemy no longer knows, as
// Airflow does at its start.
func modernPostgres(url string) string {
	for _, old := range []string{"postgres://", "postgres+psycopg2://"} {
		if rest, ok := strings.CutPrefix(url, old); ok {
			return "postgresql://" + rest
		}
	}
	return url
}
