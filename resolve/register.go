package resolve

import (
	"cmp"
	"fmt"
)

// opener makes one backend from the settings, and its name; nil if it is not
// configured.
type opener func(*Settings, Decrypter) (Backend, string, error)

// openers are the places of a search path.
var openers = map[string]opener{
	"alternative": func(s *Settings, _ Decrypter) (Backend, string, error) { return openAlternative(s.Secrets) },
	"environment": openEnvironment,
	"metastore":   openMetastore,
}

// local is a Backend that is in reach or not there at all: waiting does not help it.
type local interface{ local() bool }

// breakerFor returns the breaker of a backend that a network lies before.
func breakerFor(b Backend) *breaker {
	if l, ok := b.(local); ok && l.local() {
		return nil
	}
	return new(breaker)
}

// orders are the search paths, by [Settings].Order: with an alternative backend, and
// without one.
var orders = map[string]struct{ with, without []string }{
	"aip-33": {
		with:    []string{"alternative", "metastore", "environment"},
		without: []string{"environment", "metastore"},
	},
	"airflow": {
		with:    []string{"alternative", "environment", "metastore"},
		without: []string{"environment", "metastore"},
	},
}

// Open returns the search path that settings describe. It connects to nothing;
// its error never holds a password. With a nil fernet whatever is flagged as
// encrypted is KeyRejected, and with a nil unsealer whatever is sealed.
func Open(settings *Settings, fernet Decrypter, unsealer Unsealer) (*Path, error) {
	order, ok := orders[cmp.Or(settings.Order, "aip-33")]
	if !ok {
		return nil, fmt.Errorf("order %q is neither \"aip-33\" nor \"airflow\"", settings.Order)
	}
	places := order.without
	if settings.Secrets != nil {
		places = order.with
	}
	var entries []Entry
	for _, place := range places {
		b, name, err := openers[place](settings, fernet)
		if err != nil {
			return nil, fmt.Errorf("opening the %s: %w", cmp.Or(name, place), err)
		}
		if b != nil {
			entries = append(entries, Entry{Name: name, Backend: b, breaker: breakerFor(b)})
		}
	}
	p, err := NewPath(entries, settings.OnError)
	if err != nil {
		return nil, err
	}
	p.unsealer = unsealer
	return p, nil
}
