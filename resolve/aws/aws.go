// Package aws finds connections in AWS Systems Manager's Parameter Store and in AWS
// Secrets Manager.
package aws

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/awslogin"
	"github.com/connfs/connfs/resolve/backend"
)

// teamSeparator stands between a team and an id in the names of secrets.
const teamSeparator = "--"

// longestName is the longest name, in bytes, that either service takes.
const longestName = 2048

// store is what the backends on AWS have in common: the login, and the names under
// which connections are kept.
type store struct {
	login *awslogin.Login

	prefix    string // before the separator and the id
	separator string
	disabled  bool // connections_prefix is null
	pattern   lookupPattern
	multiTeam bool
	team      string
}

// openStore takes the arguments that both backends have; the caller has taken all
// of its own. class is the backend's in Airflow, and apiVersion the one that there is.
func openStore(s *backend.Secrets, kw *arguments.Object, class, apiVersion string) store {
	kw.Ignore("variables_prefix", "variables_lookup_pattern", "config_prefix",
		"config_lookup_pattern")
	a := store{multiTeam: s.MultiTeam, team: s.Team}
	var err error
	if a.pattern, err = newLookupPattern(kw.Text("connections_lookup_pattern", "")); err != nil {
		kw.Fail("connections_lookup_pattern", "%v", err)
	}
	if v := kw.Text("api_version", apiVersion); v != apiVersion {
		kw.Fail("api_version", "there is only %q", apiVersion)
	}
	tls := kw.Boolean("use_ssl", true)
	settings := awslogin.FromArguments(kw)
	if !tls && settings.Endpoint == "" && os.Getenv("AWS_ENDPOINT_URL") == "" {
		// With an endpoint its URL decides, as in Airflow.
		kw.Fail("use_ssl",
			"connfs sends no secret over plain HTTP but to an endpoint_url that says so")
	}
	if settings.Role.SessionName == "" {
		settings.Role.SessionName = awslogin.SessionName(class)
	}
	a.login = awslogin.New(settings)
	return a
}

// checkAffix reports a part of every name that the service takes in none: with it every
// connection would seem absent. letters are those that the service takes, as a class of a regular
// expression.
func checkAffix(kw *arguments.Object, argument, text, letters string) {
	switch {
	case strings.HasPrefix(text, "arn:"):
		kw.Fail(argument, "an ARN is no part of a name; give what follows its resource type")
	case !regexp.MustCompile("^" + letters + "*$").MatchString(text):
		kw.Fail(argument, "AWS takes no name with this in it, only %s", letters)
	}
}

// names returns the names under which an id is kept, in the order in which they are
// asked: the team's own first. Its error is the answer for an id that must not be
// asked for.
func (a *store) names(id string) ([]string, error) {
	if a.disabled {
		return nil, conn.Errorf(conn.Absent, "",
			"connections_prefix is null, so the backend was not asked")
	}
	if err := backend.CheckPathID(id); err != nil {
		return nil, err
	}
	if a.multiTeam && strings.Contains(id, teamSeparator) {
		return nil, conn.Errorf(conn.Absent, "", "the id holds %q, which stands between a team "+
			"and an id, and is not sent", teamSeparator)
	}
	if len(id) > longestName {
		return nil, conn.Errorf(conn.Absent, "",
			"the id is longer than any name can be, and is not sent")
	}
	if err := a.pattern.check(id); err != nil {
		return nil, err
	}
	plain := a.name(id)
	if a.team != "" && a.prefix+a.separator != "" {
		return []string{a.name(a.team + teamSeparator + id), plain}, nil
	}
	return []string{plain}, nil
}

func (a *store) name(id string) string { return a.prefix + a.separator + id }

// ids returns the ids that names are kept for, of those that a look-up answers to.
func (a *store) ids(names []string) []string {
	found := make(map[string]bool)
	for _, name := range names {
		id, ok := strings.CutPrefix(name, a.prefix+a.separator)
		if !ok {
			continue
		}
		if a.team != "" {
			id = strings.TrimPrefix(id, a.team+teamSeparator)
		}
		// Another team's holds the separator still.
		if all, err := a.names(id); err == nil && slices.Contains(all, name) {
			found[id] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// find asks for the names of an id one after another. get returns the text that a name
// holds, and false where nothing is stored under it.
func (a *store) find(ctx context.Context, id string,
	get func(ctx context.Context, name string) (string, bool, error),
	parse func(string) (*conn.Connection, error)) (*conn.Connection, error) {
	names, err := a.names(id)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError("", err)
	}
	for _, name := range names {
		text, ok, err := get(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case ok && text == "":
			return nil, conn.Errorf(conn.Absent, "",
				"the value is empty, which Airflow takes as absent")
		case ok:
			c, err := parse(text)
			if err != nil {
				return nil, backend.Invalid("", err)
			}
			return c, nil
		}
	}
	return nil, conn.Errorf(conn.Absent, "", "nothing is stored for this id")
}

// Identity implements [backend.Successor].
func (a *store) Identity() []byte { return a.login.Identity() }

// Adopt implements [backend.Successor].
func (a *store) Adopt(identity []byte) { a.login.Adopt(identity) }

// Close drops the idle connections.
func (a *store) Close() error { return a.login.Close() }

// absent turns an error that says absent into nil.
func absent(err error) error {
	if err != nil && conn.KindOf(err) == conn.Absent {
		return nil
	}
	return err
}
