package resolve

import (
	"cmp"
	"fmt"
)

// opener makes one backend from the settings; nil if it is not configured.
type opener func(*Settings, Decrypter) (Backend, error)

// openers are all the backends there are, by name.
var openers = map[string]opener{
	"environment": openEnvironment,
	"metastore":   openMetastore,
}

// orders are the search paths, by [Settings].Order. AIP-33's order and the one that
// released Airflow settled on differ only where an alternative backend is
// configured, and there is none yet.
var orders = map[string][]string{
	"aip-33":  {"environment", "metastore"},
	"airflow": {"environment", "metastore"},
}

// Open returns the search path that settings describe. It connects to nothing;
// its error never holds a password. With a nil fernet whatever is flagged as
// encrypted is KeyRejected.
func Open(settings *Settings, fernet Decrypter) (*Path, error) {
	order, ok := orders[cmp.Or(settings.Order, "aip-33")]
	if !ok {
		return nil, fmt.Errorf("order %q is neither \"aip-33\" nor \"airflow\"", settings.Order)
	}
	var entries []Entry
	for _, name := range order {
		b, err := openers[name](settings, fernet)
		if err != nil {
			return nil, fmt.Errorf("opening the %s: %w", name, err)
		}
		if b != nil {
			entries = append(entries, Entry{name, b})
		}
	}
	return NewPath(entries, settings.OnError)
}
