package resolve

import (
	"context"
	"github.com/connfs/connfs/resolve/backend"
	"sync"
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

// Checked is what one backend of a path said when it was tried.
type Checked struct {
	Name   string
	Checks []backend.Check
}

// Check tries the credentials and permissions of every backend that has some, of all of
// them at once, so that one that hangs takes no time from the others. A backend that is
// no [backend.Checker] is asked for its listing.
func (p *Path) Check(ctx context.Context) []Checked {
	all := make([]Checked, len(p.entries))
	var wg sync.WaitGroup
	for i, e := range p.entries {
		wg.Go(func() { all[i] = e.check(ctx) })
	}
	wg.Wait()
	return all
}

func (e Entry) check(ctx context.Context) Checked {
	c, ok := e.Backend.(backend.Checker)
	if !ok {
		_, err := e.list(ctx)
		return Checked{e.Name, []backend.Check{{Call: "list", Err: err}}}
	}
	checks, err := within(ctx, e.Name, func() ([]backend.Check, error) { return c.Check(ctx), nil })
	if err != nil {
		checks = []backend.Check{{Call: "check", Err: err}}
	}
	for i, one := range checks {
		if one.Err != nil {
			checks[i].Err = classified(e.Name, one.Err)
		}
	}
	return Checked{e.Name, checks}
}
