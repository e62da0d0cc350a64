package metastore

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A setter takes over one parameter of a database URL. Its error says what the
// parameter may be; the caller puts the parameter's name before it, and the value is
// shown nowhere.
type setter func(value string) error

// apply hands every parameter to its setter. A parameter without a setter cannot be honoured, and
// is refused by name rather than ignored: it may be the one that makes the
// connection safe.
func (q sqlQuery) apply(dialect string, setters map[string]setter) error {
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		set, ok := setters[name]
		if !ok {
			unknown = append(unknown, strconv.Quote(name))
			continue
		}
		if len(q[name]) > 1 {
			return fmt.Errorf("the database URL gives %q more than once", name)
		}
		if err := set(q[name][0]); err != nil {
			return fmt.Errorf("%q in the database URL: %w", name, err)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("the database URL has parameters that connfs cannot honour for %s: %s",
			dialect, strings.Join(unknown, ", "))
	}
	return nil
}

// noEffect accepts a parameter that changes nothing about what a SELECT returns or
// how the server is known.
func noEffect(string) error { return nil }

func setText(to *string) setter {
	return func(value string) error { *to = value; return nil }
}

// setBool reads a truth value as SQLAlchemy does.
func setBool(to *bool) setter {
	return func(value string) error {
		v, err := parseBool(value)
		*to = v
		return err
	}
}

func parseBool(value string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "true", "yes", "on", "y", "t", "1":
		return true, nil
	case "false", "no", "off", "n", "f", "0":
		return false, nil
	}
	return false, fmt.Errorf("must be true or false")
}

// setSeconds reads a duration in whole or broken seconds.
func setSeconds(to *time.Duration) setter {
	return func(value string) error {
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || v < 0 || v > 1e6 {
			return fmt.Errorf("must be a number of seconds")
		}
		*to = time.Duration(v * float64(time.Second))
		return nil
	}
}

// setOneOf takes one of some words, whatever its case, over in small letters.
func setOneOf(to *string, words ...string) setter {
	return func(value string) error {
		v := strings.ToLower(value)
		if !slices.Contains(words, v) {
			return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		}
		*to = v
		return nil
	}
}
