package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/config/airflowcfg"
	"github.com/connfs/connfs/internal/python/configparser"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/metastore"
)

// airflow is what Airflow's configuration adds to config.toml.
type airflow struct {
	metastore *metastore.Settings // nil: not in the path
	why       string              // why it is in the path, or not
	nothing   airflowcfg.Origin   // what should have given the URL, and had nothing
	hasFile   bool                // there is an airflow.cfg

	alternative alternative
	secrets     *backend.Secrets // nil: no alternative backend in the path
	multiTeam   value[bool]

	url           value[string]
	schema        value[string]
	fernetKey     value[string]
	impersonation value[string]
}

// readAirflow takes from Airflow what config.toml does not set: from the home's
// airflow.cfg and the AIRFLOW__* variables, or without a home from the variables alone.
func (l *loader) readAirflow(ctx context.Context, f *file, h home, child account) airflow {
	a := airflow{url: f.url, fernetKey: f.fernetKey, alternative: f.secrets}
	env := l.Environ
	if child.Child != nil && child.home != "" {
		env = append(env[:len(env):len(env)], "HOME="+child.home)
	}
	cfg, err := l.openAirflow(f, h, env)
	if err != nil {
		l.failAirflow("", err)
		return a
	}
	file, _ := cfg.File()
	if a.hasFile = file != ""; !a.hasFile && h.path != "" && !f.homeSettings.set {
		if named, ok := l.variable("AIRFLOW_CONFIG"); ok {
			l.warn("the variable AIRFLOW_CONFIG names %s, which is not there", named)
		}
	}
	for _, sentence := range cfg.Misspelt() {
		l.warn("%s", sentence)
	}
	r := airflowReader{loader: l, ctx: ctx, cfg: cfg}

	r.alternative(&a)
	if a.url.v == "" {
		a.url, a.nothing = r.url()
		r.refuseConnectArgs()
	}
	a.schema = r.get("database", "sql_alchemy_schema")
	if a.fernetKey.v == "" {
		a.fernetKey = r.get("core", "fernet_key")
	}
	l.checkFernetKey(&a.fernetKey)
	a.impersonation = r.get("core", "default_impersonation")
	r.warnReadable(&a)
	l.settleMetastore(&a, h)
	return a
}

// checkFernetKey warns of a key with which nothing opens. It is no error: connections in clear
// can be served.
func (l *loader) checkFernetKey(key *value[string]) {
	_, err := kms.NewFernet(key.v)
	var unusable *conn.Error
	switch {
	case errors.As(err, &unusable):
		l.warn("%s: %s (%s): what is encrypted in the metastore cannot be read", key.from(),
			unusable.Reason, unusable.Hint)
	case key.set && key.v == "" && strings.Contains(key.origin, "variable "):
		l.warn("%s: the Fernet key is set, and empty: what is encrypted in the metastore cannot "+
			"be read", key.from())
	}
}

// openAirflow reads the home's airflow.cfg. Whoever can write it decides where the children log
// in, and what runs as their user. So it must be as safe from others as what that user may read,
// unless config.toml takes nothing of it but what is harmless.
func (l *loader) openAirflow(f *file, h home, env []string) (*airflowcfg.Config, error) {
	some := f.homeSettings.set
	if some && len(f.homeSettings.v) == 0 {
		// Not even looked at, and so it need not be readable.
		return airflowcfg.Open("", "", append(env[:len(env):len(env)], "AIRFLOW_HOME="+h.path), nil)
	}
	owners := &l.owners
	if some {
		owners = nil
	}
	cfg, err := airflowcfg.Open(h.path, "", env, owners)
	if err != nil {
		return nil, err
	}
	if some {
		cfg.Only = func(_, option string) bool { return slices.Contains(f.homeSettings.v, option) }
	}
	if file, _ := cfg.File(); file != "" && l.EUID == 0 {
		// The user of the children may have written it, and does not know what root knows.
		cfg.Foreign = l.process().Check(file) != nil
	}
	return cfg, nil
}

// settleMetastore decides whether the metastore is in the path, and says why.
// Airflow's default database counts only if its file is there, and not at all where
// something else should have given the URL.
func (l *loader) settleMetastore(a *airflow, h home) {
	file := filepath.Join(h.path, "airflow.db")
	switch {
	case !a.url.set && a.nothing.Kind != airflowcfg.Default:
		e := &Error{
			Key: "[database] sql_alchemy_conn", Message: "it gives no database URL",
			Hint: "Airflow would use its default database, " + file + ", then; remove the option " +
				"where that is meant, or where there is no metastore",
		}
		place(e, a.nothing)
		l.add(e)
		return
	case a.url.v == "":
		a.why = "not searched: no database URL is set"
		return
	case !a.url.set:
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			a.why = fmt.Sprintf("not searched: no database URL is set, and %s is not there", file)
			return
		} else if err != nil {
			l.add(&Error{
				Key:     "metastore.url",
				Message: fmt.Sprintf("looking for Airflow's database %s: %v", file, bare(err)),
			})
			return
		}
		a.why = "searched: SQLite, Airflow's default database " + file
	default:
		a.why = fmt.Sprintf("searched: %s, its URL is from %s", dialect(a.url.v), a.url.origin)
	}
	if stake, hint := metastore.Exposed(strings.TrimSuffix(a.url.v, "\n")); stake != "" {
		l.warn("%s: %s (%s)", a.url.from(), stake, hint)
	}
	a.metastore = &metastore.Settings{
		URL: strings.TrimSuffix(a.url.v, "\n"), Schema: a.schema.v, FernetKey: a.fernetKey.v,
	}
}

// airflowReader reads options of one Airflow and reports what is wrong.
type airflowReader struct {
	*loader
	ctx context.Context
	cfg *airflowcfg.Config
}

// get returns an option's value; the default where it cannot be read.
func (r *airflowReader) get(section, option string) value[string] {
	v, err := r.cfg.Get(r.ctx, section, option)
	if err != nil {
		r.failAirflow(section+"."+option, err)
		return value[string]{}
	}
	return r.take(v, section, option)
}

// take turns Airflow's value into ours.
func (r *airflowReader) take(v airflowcfg.Value, section, option string) value[string] {
	if v.Deprecated != "" {
		r.warn("%s (%s) is the old name of [%s] %s, which not every Airflow reads",
			v.Deprecated, v.Origin, section, option)
	}
	return value[string]{v: v.Text, set: v.Set, line: v.Origin.Line, origin: v.Origin.String()}
}

// url returns the database URL, which must be one of a database that connfs reads, and what
// should have given it before and had nothing.
func (r *airflowReader) url() (value[string], airflowcfg.Origin) {
	const section, option = "database", "sql_alchemy_conn"
	v, err := r.cfg.Get(r.ctx, section, option)
	if err != nil {
		r.failAirflow(section+"."+option, err)
		return value[string]{}, airflowcfg.Origin{}
	}
	message, hint := checkURL(v.Text)
	if v.Set && strings.TrimSpace(v.Text) == "" {
		message, hint = emptyURL, "unset it where there is no metastore"
		if v.Origin.Kind == airflowcfg.Command {
			message = "the command printed no database URL"
		}
	}
	if message != "" {
		e := &Error{Key: "[database] sql_alchemy_conn", Message: message, Hint: hint}
		place(e, v.Origin)
		r.add(e)
	}
	if r.cfg.Foreign && v.Origin.File != "" {
		r.withhold(v.Origin.File, settings.LoginOfDatabase)
	}
	return r.take(v, section, option), v.Nothing
}

// refuseConnectArgs stops the start where the connection to the database needs
// what only Python can import.
func (r *airflowReader) refuseConnectArgs() {
	v, err := r.cfg.Get(r.ctx, "database", "sql_alchemy_connect_args")
	if err != nil {
		r.failAirflow("database.sql_alchemy_connect_args", err)
		return
	}
	if v.Text == "" || v.Text == "None" {
		return
	}
	e := &Error{
		Key:     "[database] sql_alchemy_connect_args",
		Message: "it names a Python object, which only Python can load",
		Hint: "set metastore.url in config.toml, with parameters such as " +
			"?sslmode=verify-full&sslrootcert=/path (PostgreSQL) or ?ssl_ca=/path (MySQL)",
	}
	place(e, v.Origin)
	r.add(e)
}

// warnReadable warns of a secret in an airflow.cfg that everybody can read. It
// is no error here, since Airflow accepts such a file.
func (r *airflowReader) warnReadable(a *airflow) {
	file, info := r.cfg.File()
	if info == nil || info.Mode()&othersRead == 0 {
		return
	}
	from := func(v value[string]) bool { return strings.HasPrefix(v.origin, file+":") }
	inFile := func(b argument) bool { return b.origin.File == file && holdsSecret(b.name, b.value) }
	if from(a.fernetKey) && a.fernetKey.v != "" || from(a.url) && holdsPassword(a.url.v) ||
		slices.ContainsFunc(a.alternative.arguments, inFile) {
		r.warn("%s holds a secret, and everybody can read it; run: chmod o-rwx %s", file, file)
	}
}

// failAirflow reports an option of Airflow's that could not be read.
func (l *loader) failAirflow(key string, err error) {
	e := &Error{Message: err.Error()}
	var untrusted *trust.Error
	if errors.As(err, &untrusted) {
		e.File, e.Message = untrusted.Path, untrusted.Problem()+", and it says where connfs logs in"
		e.Hint = untrusted.Hint + "; or set what is needed in config.toml, and " +
			"airflow_home_settings = []"
	}
	if section, option, ok := strings.Cut(key, "."); ok {
		e.Key = fmt.Sprintf("[%s] %s", section, option)
	}
	var parse *configparser.ParseError
	var option *airflowcfg.OptionError
	switch {
	case errors.As(err, &option):
		e.Message = option.Err.Error()
		place(e, option.Origin)
	case errors.As(err, &parse):
		e.File, e.Line, e.Message = parse.File, parse.Line, parse.Message
	}
	l.add(e)
}

// place says where an option of Airflow's stands.
func place(e *Error, origin airflowcfg.Origin) {
	e.File, e.Line = origin.File, origin.Line
	if origin.Variable != "" {
		e.Message = origin.String() + ": " + e.Message
	}
}
