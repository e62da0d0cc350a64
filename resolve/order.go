package resolve

import (
	"cmp"
	"fmt"

	"github.com/connfs/connfs/resolve/backend"
)

// Options say how a path is searched.
type Options struct {
	Order   string // "aip-33" (the default) or "airflow"
	OnError string // "stop" (the default) or "next"
	// Unsealer opens what is sealed; nil: whatever is sealed is KeyRejected.
	Unsealer Unsealer
}

// Place opens the backend at one place of a search path, and names it, as logs and audit
// lines show it. It connects to nothing.
type Place func() (b backend.Backend, name string, err error)

// Places are what a search path is made of; nil is a place where nothing is configured.
type Places struct {
	Alternative, Metastore, Environment Place
}

// order returns the places in the order in which they are searched.
func (p *Places) order(name string) ([]namedPlace, error) {
	alternative := namedPlace{"alternative", p.Alternative}
	metastore := namedPlace{"metastore", p.Metastore}
	environment := namedPlace{"environment", p.Environment}
	switch name = cmp.Or(name, "aip-33"); {
	case name != "aip-33" && name != "airflow":
		return nil, fmt.Errorf("order %q is neither \"aip-33\" nor \"airflow\"", name)
	case p.Alternative == nil:
		return []namedPlace{environment, metastore}, nil
	case name == "airflow":
		return []namedPlace{alternative, environment, metastore}, nil
	}
	return []namedPlace{alternative, metastore, environment}, nil
}

// namedPlace is a place, and what it is called until its backend has a name.
type namedPlace struct {
	name string
	open Place
}

// Open returns the search path over places. It connects to nothing; its error never
// holds a password.
func Open(o Options, places Places) (*Path, error) {
	ordered, err := places.order(o.Order)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, place := range ordered {
		if place.open == nil {
			continue
		}
		b, name, err := place.open()
		if err != nil {
			return nil, fmt.Errorf("opening the %s: %w", cmp.Or(name, place.name), err)
		}
		entries = append(entries, Entry{Name: name, Backend: b, breaker: breakerFor(b)})
	}
	p, err := NewPath(entries, o.OnError)
	if err != nil {
		return nil, err
	}
	p.unsealer = o.Unsealer
	return p, nil
}

// breakerFor returns the breaker of a backend that a network lies before.
func breakerFor(b backend.Backend) *breaker {
	if l, ok := b.(backend.Local); ok && l.Local() {
		return nil
	}
	return new(breaker)
}
