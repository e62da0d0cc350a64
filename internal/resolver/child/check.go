package child

import (
	"context"
	"errors"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/resolve"
)

// check tries every backend, in the order of the path.
func (s *server) check(ctx context.Context) []resolver.Checked {
	all := []resolver.Checked{}
	for _, one := range s.path.Check(ctx) {
		all = append(all, checked(one)...)
	}
	return all
}

// checked turns what a backend's calls came to into the protocol's form.
func checked(one resolve.Checked) []resolver.Checked {
	var all []resolver.Checked
	for _, c := range one.Checks {
		r := resolver.Checked{Name: one.Name, Call: c.Call, Result: "ok"}
		if c.Err != nil {
			r.Kind = conn.KindOf(c.Err)
			r.Result = r.Kind.String()
			var e *conn.Error
			if errors.As(c.Err, &e) {
				r.Reason, r.Hint = e.Reason, e.Hint
			}
		}
		all = append(all, r)
	}
	return all
}
