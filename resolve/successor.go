package resolve

import (
	"context"
	"slices"
	"sync"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// breakerSuffix tells a breaker's state from the identity of its backend. No name of a
// backend holds a slash.
const breakerSuffix = "/breaker"

// Identities returns what the next child needs to go on with the logins of this one,
// by the name of the backend; see [backend.Successor].
func (p *Path) Identities() map[string][]byte {
	all := make(map[string][]byte)
	for _, e := range p.entries {
		if s, ok := e.Backend.(backend.Successor); ok {
			if b := s.Identity(); b != nil {
				all[e.Name] = b
			}
		}
		if e.breaker != nil {
			if b := e.breaker.state(); b != nil {
				all[e.Name+breakerSuffix] = b
			}
		}
	}
	return all
}

// Adopt gives each backend its predecessor's identity.
func (p *Path) Adopt(all map[string][]byte) {
	for _, e := range p.entries {
		if s, ok := e.Backend.(backend.Successor); ok && all[e.Name] != nil {
			s.Adopt(all[e.Name])
		}
		if e.breaker != nil {
			e.breaker.adopt(all[e.Name+breakerSuffix])
		}
	}
}

// Check tries the credentials and permissions of every backend that has some, of all of
// them at once, so that one that hangs takes no time from the others. A backend that is
// no [backend.Checker] is asked for its listing. The results are in the order of the path.
func (p *Path) Check(ctx context.Context) []conn.Check {
	results := make([][]conn.Check, len(p.entries))
	var wg sync.WaitGroup
	for i, e := range p.entries {
		wg.Go(func() { results[i] = e.check(ctx) })
	}
	wg.Wait()
	return slices.Concat(results...)
}

func (e Entry) check(ctx context.Context) []conn.Check {
	c, ok := e.Backend.(backend.Checker)
	if !ok {
		_, err := e.list(ctx)
		return []conn.Check{{Name: e.Name, Call: "list", Err: err}}
	}
	checks, err := within(ctx, e.Name, func() ([]conn.Check, error) { return c.Check(ctx), nil })
	if err != nil {
		checks = []conn.Check{{Call: "check", Err: err}}
	}
	for i, one := range checks {
		checks[i].Name = e.Name
		if one.Err != nil {
			checks[i].Err = classified(e.Name, one.Err)
		}
	}
	return checks
}
