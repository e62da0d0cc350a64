package conn

import (
	"slices"

	"github.com/connfs/connfs/internal/python"
)

// RekeyedFields are the fields that [ParseRekeyed] fills.
var RekeyedFields = []string{"login", "password", "host", "port", "schema", "conn_type", "extra"}

// ParseRekeyed reads a connection from a JSON object that has its fields under other
// keys, as Airflow's backend for AWS Secrets Manager does. words holds, for each of
// [RekeyedFields], the keys that mean it; if the object has several of them, the one that
// comes first in the object counts. All other keys are dropped. Otherwise it is
// [ParseJSON]. The object must not be a sealed form, of which nothing would be left.
func ParseRekeyed(text string, words map[string][]string) (*Connection, error) {
	value, err := python.LoadJSON(python.SurrogateEscape(text), python.MaxDepth)
	if err != nil {
		return nil, invalid("%v", err)
	}
	o, ok := value.(*python.Object)
	if !ok {
		return nil, invalid("the JSON is not an object")
	}
	fields := &python.Object{}
	for _, field := range RekeyedFields {
		means := func(key string) bool { return slices.Contains(words[field], key) }
		if i := slices.IndexFunc(o.Keys(), means); i >= 0 {
			fields.Set(field, o.Get(o.Keys()[i]))
		}
	}
	c, err := fromObject(fields)
	if err != nil {
		return nil, err
	}
	if err := c.checkConstructed(); err != nil {
		return nil, err
	}
	return c, nil
}

// IsJSONObject reports whether Airflow reads a value as JSON, and not as a URI.
func IsJSONObject(value string) bool {
	text := python.Strip(python.SurrogateEscape(value))
	return text != "" && text[0] == '{'
}
