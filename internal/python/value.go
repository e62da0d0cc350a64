package python

// A Python value, as connfs holds it, is nil, bool, [Integer], float64, string,
// []any, *[Object] or [Opaque].

// Integer is an integer of any size, in decimal as Python writes it.
type Integer string

// Object is a dict with texts as keys, in the order in which they were first set.
type Object struct {
	keys   []string
	values map[string]any
}

// Opaque is a Python value that JSON cannot hold: a date, bytes, a set.
type Opaque struct {
	Truthy bool // Python's bool() of it
}

// Keys returns the keys in the order in which they were first set.
func (o *Object) Keys() []string { return o.keys }

// Get returns the value of a key, or nil if the key is not there.
func (o *Object) Get(key string) any { return o.values[key] }

// Has reports whether the key is there, even if its value is nil.
func (o *Object) Has(key string) bool {
	_, ok := o.values[key]
	return ok
}

// Set sets the value of a key.
func (o *Object) Set(key string, value any) {
	if o.values == nil {
		o.values = make(map[string]any)
	}
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

// Truthy is Python's bool(value).
func Truthy(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case Integer:
		return v != "0"
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case *Object:
		return len(v.keys) > 0
	case Opaque:
		return v.Truthy
	}
	panic("python: not a Python value")
}

// Dumpable reports whether json.dumps takes the value: it holds no [Opaque].
func Dumpable(value any) bool {
	switch v := value.(type) {
	case Opaque:
		return false
	case []any:
		for _, item := range v {
			if !Dumpable(item) {
				return false
			}
		}
	case *Object:
		for _, item := range v.values {
			if !Dumpable(item) {
				return false
			}
		}
	}
	return true
}
