package child

import (
	"context"
	"errors"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/resolver"
)

// check tries every backend, in the order of the path, and then every KMS.
func (s *server) check(ctx context.Context) []resolver.Checked {
	all := []resolver.Checked{}
	for _, backend := range s.path.Check(ctx) {
		for _, c := range backend.Checks {
			one := checked(backend.Name, c.Call, c.Err)
			if c.Listing {
				one.Only = "listing"
			}
			all = append(all, one)
		}
	}
	for _, c := range s.keyring.Check(ctx) {
		one := checked("kms "+c.KMS, c.Call, c.Err)
		if c.Sealing {
			one.Only = "sealing"
		}
		all = append(all, one)
	}
	return all
}

// checked returns what a call came to in the protocol's form.
func checked(name, call string, err error) resolver.Checked {
	c := resolver.Checked{Name: name, Call: call, Result: "ok"}
	if err == nil {
		return c
	}
	c.Kind = conn.KindOf(err)
	c.Result = c.Kind.String()
	var e *conn.Error
	if errors.As(err, &e) {
		c.Reason, c.Hint = e.Reason, e.Hint
	}
	return c
}
