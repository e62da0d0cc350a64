package vault

import (
	"context"
	"slices"

	"github.com/connfs/connfs/conn"
)

// checkID is the id of no connection, by which [Store.Check] tries the mount.
const checkID = "connfs_check_of_no_connection"

// Check implements [backend.Checker]: the login, the token, and what it may do in each folder.
func (v *Store) Check(ctx context.Context) []conn.Check {
	login := "auth/" + v.login.auth.mount + "/" + v.login.auth.path
	if !v.login.auth.calls() {
		login = "token"
	}
	session, err := v.login.session(ctx)
	checks := []conn.Check{{Call: login, Err: err}}
	if err != nil {
		return checks
	}
	const self = "auth/token/lookup-self"
	checks = append(checks,
		conn.Check{Call: self, Err: v.api.get(ctx, session.Token, self, nil, nil)})
	if v.mount == "" {
		return checks
	}
	for _, base := range v.bases {
		sample := v.path(v.mount, "data", base, checkID)
		// Nothing is at this path. To whoever may read it, Vault says so, or what is wrong with
		// the mount.
		err := v.api.get(ctx, session.Token, sample, nil, nil)
		err = v.missing(ctx, session, v.mount, err)
		if conn.KindOf(err) == conn.Absent {
			err = nil
		}
		if conn.KindOf(err) != conn.Denied {
			checks = append(checks, conn.Check{Call: "mount " + v.mount, Err: err})
		}
		// Policies know folders by their final slash.
		folder := v.path(v.mount, "metadata", base, "") + "/"
		checks = append(checks,
			v.may(ctx, session, "read", sample), v.may(ctx, session, "list", folder))
	}
	return checks
}

// may asks whether the token has a capability on a path.
func (v *Store) may(ctx context.Context, s *session, capability, path string) conn.Check {
	c := conn.Check{Call: capability + " " + path}
	if capability == "list" {
		c.Only = conn.OnlyListing
	}
	var answer struct {
		Data struct {
			Capabilities []string `json:"capabilities"`
		} `json:"data"`
	}
	err := v.api.put(ctx, s.Token, "sys/capabilities-self", map[string]any{"paths": []string{path}},
		&answer)
	switch {
	case err != nil:
		c.Err = err
	case !slices.Contains(answer.Data.Capabilities, capability) &&
		!slices.Contains(answer.Data.Capabilities, "root"):
		c.Err = &conn.Error{
			Kind: conn.Denied, Reason: "the token's policies do not allow it",
			Hint: "policies that name single connections allow those nevertheless",
		}
	}
	return c
}
