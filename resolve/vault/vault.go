// Package vault finds connections in HashiCorp Vault's key-value engine.
package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"unicode"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/resolve/backend"
)

// maxID is the longest id that is sent, in bytes: no file has a longer name, and the
// time that Vault takes grows with the square of the length, to 30 seconds for 100,000.
const maxID = 1024

// Store is the backend of HashiCorp Vault's key-value engine, versions 1 and 2, with the
// arguments and the rules of Airflow's VaultBackend (apache-airflow-providers-hashicorp
// 4.8.4). It is safe for concurrent use.
//
// It differs from Airflow on purpose where an id would leave its folder (such an id is
// Absent and never sent), where the login does not exist (Denied, where Airflow's
// connection "isn't defined"), and in logging in anew: a token that Vault still accepts is
// not replaced for every path that it may not read.
type Store struct {
	mount   string   // where the engine is; empty: the first part of an id
	version int      // of the engine
	bases   []string // folders, in the order in which they are tried; "": the mount itself
	team    string   // the folder of the team within each of them; empty: none
	flat    bool     // an id with a slash might name a team, and is refused

	api     *client
	login   *login
	engines engines
}

// Open is the [backend.Opener] of a [Store].
func Open(s *backend.Secrets, kw *arguments.Object) (backend.Backend, error) {
	v := &Store{}
	v.folders(s, kw)
	v.api = newClient(kw)
	v.login = newLogin(s.Kwargs, v.api, kw)
	if err := kw.Err(); err != nil {
		return nil, err
	}
	return v, nil
}

// folders reads the arguments that say where connections are.
func (v *Store) folders(s *backend.Secrets, kw *arguments.Object) {
	kw.Ignore("variables_path", "config_path")
	v.mount = pathArgument(kw, "mount_point", "secret")
	v.version = kw.Choice("kv_engine_version", 2, 1, 2)
	v.bases = pathsArgument(kw, "connections_path", "connections")
	global := pathArgument(kw, "global_secrets_path", "")
	if kw.Value("global_secrets_path") != nil {
		v.bases = append(v.bases, global)
	}
	if teams := kw.Boolean("use_team_secrets_path", true); teams && s.MultiTeam {
		if s.Team != "" && backend.CheckPathID(s.Team) != nil {
			kw.Fail("use_team_secrets_path", "the team's name cannot be part of a path")
		}
		v.team, v.flat = s.Team, s.Team == ""
	}
}

// Connection implements [backend.Backend].
func (v *Store) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	mount, name, err := v.locate(id)
	if err != nil {
		return nil, err
	}
	for _, base := range v.bases {
		raw, err := v.secret(ctx, mount, v.path(mount, "data", base, name))
		switch {
		case err == nil:
			return parseConnection(raw)
		case conn.KindOf(err) == conn.Absent:
		case isStatus(err, 400) && strings.ContainsFunc(id, unprintable):
			// Vault's listener takes no path that it cannot print, so no secret has this id.
		default:
			return nil, err
		}
	}
	return nil, conn.Errorf(conn.Absent, "", "Vault has no such secret")
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// locate splits an id into the mount of its engine and its name there.
func (v *Store) locate(id string) (mount, name string, err error) {
	if err := backend.CheckPathID(id); err != nil {
		return "", "", err
	}
	if len(id) > maxID {
		return "", "", conn.Errorf(conn.Absent, "", "the id is over %d bytes, and is not sent",
			maxID)
	}
	if strings.Contains(id, "..") {
		return "", "", conn.Errorf(conn.Absent, "",
			"the id holds \"..\", and Vault fails on a path with that anywhere in it")
	}
	mount, name = v.mount, id
	if mount == "" {
		var ok bool
		if mount, name, ok = strings.Cut(id, "/"); !ok {
			return "", "", conn.Errorf(conn.Absent, "",
				"mount_point is null, and the id names no mount")
		}
		// These are no secrets engines but Vault's own settings.
		if mount == "sys" || mount == "auth" {
			return "", "", conn.Errorf(conn.Absent, "",
				"the id names a part of Vault that holds no secrets")
		}
	}
	if v.flat && strings.Contains(name, "/") {
		return "", "", conn.Errorf(conn.Absent, "",
			"an id with a slash may name a team's connection, and no team is set")
	}
	return mount, name, nil
}

// path returns the path of an API call about a name in a folder; version 2 of the engine
// has values under "data" and names under "metadata".
func (v *Store) path(mount, kind, base, name string) string {
	parts := []string{mount}
	if v.version == 2 {
		parts = append(parts, kind)
	}
	for _, part := range []string{base, v.team, name} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// secret returns the key-value pairs at a path, as the JSON object that Vault sent.
func (v *Store) secret(ctx context.Context, mount, path string) (json.RawMessage, error) {
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if err := v.read(ctx, mount, path, nil, &answer); err != nil {
		return nil, err
	}
	if v.version == 2 {
		var versioned struct {
			Data     json.RawMessage `json:"data"`
			Metadata json.RawMessage `json:"metadata"`
		}
		if json.Unmarshal(answer.Data, &versioned) != nil || versioned.Data == nil {
			return nil, &conn.Error{
				Kind:   conn.Invalid,
				Reason: "this is not a secret of a key-value engine of version 2",
				Hint:   "look at mount_point and kv_engine_version",
			}
		}
		answer.Data = versioned.Data
	}
	if answer.Data == nil || bytes.Equal(answer.Data, []byte("null")) {
		return nil, conn.Errorf(conn.Absent, "", "the secret's newest version is deleted")
	}
	return answer.Data, nil
}

// read reads from a path of a mount under the current token, and once more under a new one where
// Vault no longer accepts it.
func (v *Store) read(
	ctx context.Context, mount, path string, query url.Values, into any,
) error {
	session, err := v.login.session(ctx)
	if err != nil {
		return err
	}
	err = v.api.get(ctx, session.Token, path, query, into)
	if !isStatus(err, 403) {
		return v.missing(ctx, session, mount, err)
	}
	renewed, loginErr := v.login.again(ctx, session)
	switch {
	case loginErr != nil:
		return loginErr
	case renewed == nil:
		return err
	}
	err = v.api.get(ctx, renewed.Token, path, query, into)
	if isStatus(err, 403) {
		v.login.newTokenUseless(renewed)
	}
	return v.missing(ctx, renewed, mount, err)
}

// parseConnection is VaultBackend.get_conn_value and what Airflow makes of its answer: a
// conn_uri that is not empty is a connection's text, else the whole secret is its JSON.
func parseConnection(raw json.RawMessage) (*conn.Connection, error) {
	var secret map[string]json.RawMessage
	if json.Unmarshal(raw, &secret) != nil {
		return nil, conn.Errorf(conn.Invalid, "", "the secret is not a JSON object")
	}
	uri, ok := secret["conn_uri"]
	if !ok {
		return conn.Parse(string(raw))
	}
	var text string
	if json.Unmarshal(uri, &text) != nil {
		return nil, conn.Errorf(conn.Invalid, "", "conn_uri is not a string")
	}
	if text == "" {
		return nil, conn.Errorf(conn.Invalid, "",
			"conn_uri is empty or null, and no connection has such a key")
	}
	return conn.Parse(text)
}

// Warm implements [backend.Warmer]: it logs in, or where that is done opens a connection.
func (v *Store) Warm(ctx context.Context) error { return v.login.warm(ctx) }

// Identity implements [backend.Successor]: the token and its lease, and the mounts that were
// looked at.
func (v *Store) Identity() []byte { return v.login.identity(v.engines.copy()) }

// Adopt implements [backend.Successor].
func (v *Store) Adopt(identity []byte) {
	for mount, at := range v.login.adopt(identity) {
		v.engines.add(mount, at)
	}
}

// Close closes the connections.
func (v *Store) Close() error {
	v.api.close()
	return nil
}

// isStatus reports whether Vault answered with an HTTP status.
func isStatus(err error, status int) bool {
	var s *statusError
	return errors.As(err, &s) && s.status == status
}
