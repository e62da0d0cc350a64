package conn

import (
	"fmt"
	"maps"
	"slices"

	"github.com/connfs/connfs/internal/python"
	"github.com/connfs/connfs/internal/spelling"
)

// fileKeys are the keys that a connection may have in a local file, where it is an object:
// the arguments of Airflow 2.10's constructor, and extra_dejson.
var fileKeys = map[string]bool{
	"conn_id": true, "conn_type": true, "description": true, "host": true, "login": true,
	"password": true, "schema": true, "port": true, "extra": true, "uri": true,
	"extra_dejson": true,
}

// FileEntry is one connection of a local file.
type FileEntry struct {
	Connection *Connection // nil if Err is set
	// Err is of kind Invalid: Airflow reads the file, but under this id it finds no
	// connection that it can use, or one that connfs cannot represent.
	Err error
}

// ParseFileEntry reads an entry of a local file, as Airflow's LocalFilesystemBackend does:
// a text is a URI, and an object holds the arguments of the constructor.
// Nothing is normalised, with one exception: Airflow keeps a port that is text, but in a
// file of connfs a port can only be an integer, so text that Python's int() takes becomes
// that integer.
//
// A sealed form, as text or as the object itself, becomes a connection with only an extra,
// which is the sealed form; see [Connection.Sealed].
//
// The error is of kind Invalid, and means that Airflow refuses the whole file.
func ParseFileEntry(id string, value any) (FileEntry, error) {
	switch v := value.(type) {
	case string:
		if text := python.Strip(v); IsSealed(text) {
			return FileEntry{Connection: &Connection{Extra: NewSecret(text)}}, nil
		}
		return fileURI(v)
	case *python.Object:
		if v.Get(SealedKey) != nil && python.Dumpable(v) {
			return FileEntry{Connection: &Connection{Extra: NewSecret(python.DumpJSON(v))}}, nil
		}
		return fileObject(id, v)
	}
	return FileEntry{}, invalid("a connection is neither text nor an object")
}

// fileURI is the constructor with only a URI. With an empty one it sets no field.
func fileURI(uri string) (FileEntry, error) {
	if uri == "" {
		return FileEntry{Connection: &Connection{}}, nil
	}
	c, err := splitConnection(uri)
	if err != nil {
		return FileEntry{}, err
	}
	return constructed(c, nil)
}

func fileObject(id string, o *python.Object) (FileEntry, error) {
	for _, key := range o.Keys() {
		if !fileKeys[key] {
			return FileEntry{}, &Error{
				Kind:   Invalid,
				Reason: fmt.Sprintf("it has the key %q, which Airflow does not take", key),
				Hint:   spelling.DidYouMean(key, slices.Sorted(maps.Keys(fileKeys))),
			}
		}
	}
	extra := o.Get("extra")
	if o.Has("extra_dejson") {
		if o.Has("extra") {
			return FileEntry{}, invalid("a connection has both extra and extra_dejson")
		}
		decoded := o.Get("extra_dejson")
		if !python.Dumpable(decoded) {
			return FileEntry{}, invalid("an extra holds a value that JSON cannot hold")
		}
		extra = python.DumpJSON(decoded)
	}
	if o.Has("conn_id") && o.Get("conn_id") != any(id) {
		return FileEntry{}, invalid("a connection has a conn_id that is not its key")
	}
	if python.Truthy(extra) && !python.Dumpable(extra) {
		return FileEntry{}, invalid("an extra holds a value that JSON cannot hold")
	}
	if uri := o.Get("uri"); python.Truthy(uri) {
		return fileURIKey(uri, o, extra)
	}
	return fileFields(o, extra)
}

// fileURIKey reads the connection from the key "uri". Of the other keys only the
// description may hold anything but what is empty or otherwise false.
func fileURIKey(uri any, o *python.Object, extra any) (FileEntry, error) {
	mixed := python.Truthy(extra)
	for _, key := range []string{"conn_type", "host", "login", "password", "schema", "port"} {
		mixed = mixed || python.Truthy(o.Get(key))
	}
	if mixed {
		return FileEntry{}, invalid("a connection mixes uri with single values")
	}
	text, ok := uri.(string)
	if !ok {
		return FileEntry{}, invalid("a uri is not a string")
	}
	c, err := splitConnection(text)
	if err != nil {
		return FileEntry{}, err
	}
	var wrong error
	c.Description, wrong = textOf("description", o.Get("description"))
	return constructed(c, wrong)
}

// fileFields reads the connection from single values. A value that Airflow stores, though
// it is no text, makes this connection invalid; a value that its constructor refuses makes
// the whole file invalid.
func fileFields(o *python.Object, extra any) (FileEntry, error) {
	c := &Connection{}
	if password := o.Get("password"); python.Truthy(password) {
		text, ok := password.(string)
		if !ok {
			return FileEntry{}, invalid("a password is not a string")
		}
		c.Password = NewSecret(text)
	}
	// An extra that is empty and no text means that there is no extra.
	if text, ok := extra.(string); ok {
		c.Extra = NewSecret(text)
	} else {
		c.Extra = extraOf(extra)
	}
	var wrong error
	for _, f := range []struct {
		name string
		to   **string
	}{
		{"conn_type", &c.Type}, {"description", &c.Description}, {"host", &c.Host},
		{"login", &c.Login}, {"schema", &c.Schema},
	} {
		text, err := textOf(f.name, o.Get(f.name))
		if err != nil && wrong == nil {
			wrong = err
		}
		*f.to = text
	}
	var err error
	if c.Port, err = filePort(o.Get("port")); err != nil && wrong == nil {
		wrong = err
	}
	return constructed(c, wrong)
}

// constructed returns the entry of a connection after the checks of Airflow's constructor:
// a password and an extra must be UTF-8, and the extra either no JSON at all or JSON that
// Python's parser can read. Other fields only matter when somebody asks for the connection,
// and wrong says what is wrong with them.
func constructed(c *Connection, wrong error) (FileEntry, error) {
	if err := (&Connection{Password: c.Password, Extra: c.Extra}).checkConstructed(); err != nil {
		return FileEntry{}, err
	}
	if wrong == nil {
		wrong = c.checkUnicode()
	}
	if wrong != nil {
		return FileEntry{Err: wrong}, nil
	}
	return FileEntry{Connection: c}, nil
}

// filePort returns a port that is an integer, or the text of one.
func filePort(value any) (*int64, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case python.Integer, string:
		if v == any("") {
			return nil, nil // to Airflow that is no port
		}
		if v == any(python.Integer("0")) {
			var zero int64
			return &zero, nil
		}
		return port(v)
	}
	return nil, invalid("the port is %v", python.ErrNotInteger)
}
