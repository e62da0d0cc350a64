package conn

// A Python value, as connfs holds it, is nil, bool, [Integer], float64, string,
// []any, *[Object] or [Opaque].

// Integer is an integer of any size, in decimal as Python writes it.
type Integer = integer

// Object is a mapping from texts, with its keys in the order in which they first stood.
type Object = object

// Opaque is a Python value that JSON has no form of: a date, bytes, a set.
type Opaque struct {
	Truthy bool // Python's bool() of it
}

// LoadJSON is Python's json.loads of a text, which must be UTF-8. It returns nil, bool,
// [Integer], float64, string, []any or *[Object]. Its error, of kind Invalid, says
// nothing of the text.
func LoadJSON(text string) (any, error) {
	// A local file's extra lies two levels below its text.
	value, err := loads(text, maxDepth+2)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return value, nil
}

// Keys returns the keys in the order in which they first stood.
func (o *object) Keys() []string { return o.keys }

// Get returns the value of a key; nil if it is not there.
func (o *object) Get(key string) any { return o.values[key] }

// Set adds a key, or gives one that is there already another value.
func (o *object) Set(key string, value any) { o.set(key, value) }

// has reports whether the key is there, be its value nil.
func (o *object) has(key string) bool {
	_, ok := o.values[key]
	return ok
}

// dumpable reports whether json.dumps takes the value.
func dumpable(value any) bool {
	switch v := value.(type) {
	case Opaque:
		return false
	case []any:
		for _, item := range v {
			if !dumpable(item) {
				return false
			}
		}
	case *object:
		for _, item := range v.values {
			if !dumpable(item) {
				return false
			}
		}
	}
	return true
}

// DumpJSON is Python's json.dumps with its defaults. The value must hold no [Opaque].
func DumpJSON(value any) string { return dumps(value) }
