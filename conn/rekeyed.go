package conn

import "slices"

// RekeyedFields are the fields that [ParseRekeyed] fills.
var RekeyedFields = []string{"login", "password", "host", "port", "schema", "conn_type", "extra"}

// ParseRekeyed reads a connection from a JSON object that has its fields under other
// words, as Airflow's backend for AWS Secrets Manager. words holds, for each of
// [RekeyedFields], the keys that mean it; of several that the object has, its own
// first one counts. All other keys are dropped. Otherwise it is [ParseJSON]. The
// object must not be a sealed form, of which nothing would be left.
func ParseRekeyed(text string, words map[string][]string) (*Connection, error) {
	value, err := loads(surrogateEscape(text), maxDepth)
	if err != nil {
		return nil, invalid("%v", err)
	}
	o, ok := value.(*object)
	if !ok {
		return nil, invalid("the JSON is not an object")
	}
	values := make(map[string]any, len(RekeyedFields))
	for _, field := range RekeyedFields {
		i := slices.IndexFunc(o.keys, func(key string) bool { return slices.Contains(words[field], key) })
		if i >= 0 {
			values[field] = o.values[o.keys[i]]
		}
	}
	c, err := fromObject(values)
	if err != nil {
		return nil, err
	}
	if err := c.checkConstructed(); err != nil {
		return nil, err
	}
	return c, nil
}

// IsJSONObject reports whether Airflow takes a value for JSON and not for a URI.
func IsJSONObject(value string) bool {
	text := pyStrip(surrogateEscape(value))
	return text != "" && text[0] == '{'
}
