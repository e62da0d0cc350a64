package kms

import (
	"context"
	"slices"

	"github.com/connfs/connfs/conn"
)

// Kind is one type of KMS: its name, the keys that a [kms.NAME] of it takes, and how its
// client is made of them.
type Kind struct {
	// Type is the kms_type of sealed forms, and the type of a [kms.NAME].
	Type string
	// Keys are what a [kms.NAME] of this type may hold beside type, mode, cache_ttl and
	// cache_uses, in the order in which the documentation shows them.
	Keys []Key
	// Programs says that the client of a [kms.NAME] may start a program to log in.
	Programs bool

	// open makes the client of a [kms.NAME], whose settings are right. It calls nothing
	// over a network.
	open func(context.Context, Settings) (Client, error)

	// connType is the conn_type of Airflow connections that describe a KMS of this type,
	// and openConnection makes the client of one, and says in which mode it seals, "" being
	// the default. Empty and nil: no connection can.
	connType       string
	openConnection func(context.Context, *conn.Connection) (client Client, mode string, err error)
}

// Key is one key of a [kms.NAME]. Its value is text, and an empty text counts as not set.
type Key struct {
	Name string
	Form Form
	// Required says that a [kms.NAME] of this type does not work without it.
	Required bool
	// Needs is another key, without which this one has no effect; empty: no other key.
	Needs string
	// Excludes is another key, which cannot be set beside this one; empty: no other key.
	Excludes string
	// Check says what is wrong with a value, and does not show it: "it is not a URL". nil: any
	// value will do.
	Check func(value string) error
	// Read reads and checks the file that a SecretFile names. Its error is a *conn.Error. nil:
	// the file may hold any text.
	Read func(path string) ([]byte, error)
	// Sample is a value for config.toml.example. Help says what the key is, in that file and
	// where the key is missing.
	Sample, Help string
}

// Form says what the value of a [Key] stands for.
type Form int

const (
	// Text is plain text.
	Text Form = iota
	// Path is the name of a file that the client itself reads. The client gets an absolute
	// path.
	Path
	// SecretFile is the name of a file that is read together with the configuration, by a
	// user who may read it. The client gets its content.
	SecretFile
)

// Kinds returns every kind of KMS.
func Kinds() []*Kind { return kinds }

// Lookup returns the kind of that type; nil: there is no such type.
func Lookup(kmsType string) *Kind {
	i := slices.IndexFunc(kinds, func(k *Kind) bool { return k.Type == kmsType })
	if i < 0 {
		return nil
	}
	return kinds[i]
}

// Types returns the type of every kind.
func Types() []string {
	types := make([]string, len(kinds))
	for i, k := range kinds {
		types[i] = k.Type
	}
	return types
}

// Key returns the key of that name; false: this kind has no such key.
func (k *Kind) Key(name string) (Key, bool) {
	i := slices.IndexFunc(k.Keys, func(key Key) bool { return key.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return k.Keys[i], true
}
