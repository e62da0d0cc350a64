package kms

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/connfs/connfs/conn"
)

// Action is what is done to a connection where it is kept.
type Action string

// The actions. Each of them leaves alone what is already as it should be.
const (
	// ActionSeal seals what is in clear, and takes over what was typed in clear beside a sealed
	// form.
	ActionSeal Action = "seal"
	// ActionUnseal puts what was sealed back in clear.
	ActionUnseal Action = "unseal"
	// ActionReseal seals with a new data key, for another KMS or with other fields.
	ActionReseal Action = "reseal"
	// ActionRotate is ActionReseal for what a KMS sealed with another key than its present one.
	ActionRotate Action = "rotate"
)

// Change asks for an action on one connection.
type Change struct {
	Action Action
	ID     string
	// KMS is which one seals (Seal, Reseal), or has sealed (Rotate). Reseal: empty is the
	// one that did.
	KMS string
	To  string // Rotate: the new KMS; empty: the same
	All bool   // Rotate: also what its present key sealed
	// Fields are the fields to seal. None: what is sealed already, or else [DefaultFields].
	Fields []string
	// AllFields stands for every field that can be sealed where the connection is kept.
	AllFields bool
}

// Changed is what came of a [Change].
type Changed struct {
	// Connection is what is to be kept; nil: what is kept already.
	Connection *conn.Connection
	// Done is "sealed", "unsealed", "resealed" or "unchanged".
	Done string
	// Note says how, or why not.
	Note string
}

// Concerns reports whether the change is for a sealed row of the metastore. Rotate is for those
// that a KMS has sealed. All other actions are for all of them, so that a row that cannot be read
// fails with its reason.
func (c Change) Concerns(sealed *conn.Connection) bool {
	d, err := Describe(sealed)
	return c.Action != ActionRotate || err == nil && d.KMSConnID == c.KMS
}

// Sealer changes connections where they are kept. It is safe for concurrent use.
type Sealer struct {
	keyring *Keyring
	find    Finder
	present sync.Map // which key a KMS seals with at present, by kms_conn_id
}

// NewSealer returns a Sealer with the KMS of the keyring, and those that find looks up.
func NewSealer(keyring *Keyring, find Finder) *Sealer {
	return &Sealer{keyring: keyring, find: find}
}

// Find looks for KMS by their names, and returns the error of the first one that there is not.
// Empty names do not count. It connects to none of them.
func (s *Sealer) Find(ctx context.Context, names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := s.keyring.unlisted(name); err != nil {
			return err
		}
		if _, err := s.keyring.service(ctx, name, s.find); err != nil {
			return err
		}
	}
	return nil
}

// Row returns what becomes of a row of the metastore, once that is known to open to the same
// again. Its conn_type stays in clear where all fields are sealed, since Airflow needs it.
// Its error is a *conn.Error.
func (s *Sealer) Row(ctx context.Context, c Change, kept *conn.Connection) (Changed, error) {
	if c.AllFields {
		c.Fields = slices.DeleteFunc(AllFields(), func(name string) bool {
			return name == "conn_type"
		})
	}
	return s.change(ctx, c, kept)
}

// Value returns what becomes of a connection that a string backend keeps, once that is known
// to open to the same again, and the text to keep. Its error is a *conn.Error.
func (s *Sealer) Value(
	ctx context.Context, c Change, kept *conn.Connection,
) (text []byte, changed Changed, err error) {
	if c.Action != ActionSeal && !kept.Sealed() {
		return nil, Changed{}, notSealed()
	}
	if c.AllFields {
		c.Fields = AllFields()
	}
	if changed, err = s.change(ctx, c, kept); err != nil {
		return nil, Changed{}, err
	}
	to := cmp.Or(changed.Connection, kept)
	if text, err = written(c.ID, to); err != nil {
		return nil, Changed{}, err
	}
	if !to.Sealed() {
		return text, changed, nil
	}
	// The backend will keep this text, and not the connection that it was made of.
	if back, err := conn.Parse(string(text)); err != nil || !equalButForSpace(back, to) {
		return nil, Changed{}, &conn.Error{
			Kind: conn.Invalid, Hint: "seal it with --fields all",
			Reason: "the connection has a field for which the JSON form has no text:" +
				" an empty conn_type, or the port 0",
		}
	}
	return text, changed, nil
}

// written returns a connection as a string backend keeps it: in the JSON form, or, where
// everything is sealed, as the sealed form alone.
func written(id string, c *conn.Connection) ([]byte, error) {
	if !c.Sealed() {
		return conn.Render(id, c, conn.FormatJSON)
	}
	if d, err := Describe(c); err == nil && slices.Equal(d.Fields, AllFields()) {
		text, _ := c.Extra.Reveal()
		return []byte(text + "\n"), nil
	}
	return c.JSON()
}

// equalButForSpace compares two sealed connections, but for the white space in the sealed
// form.
func equalButForSpace(a, b *conn.Connection) bool {
	x, y := *a, *b
	x.Extra, y.Extra = conn.Secret{}, conn.Secret{}
	return x.Equal(&y) && a.Sealed() && b.Sealed()
}

// change returns what becomes of a connection.
func (s *Sealer) change(ctx context.Context, c Change, kept *conn.Connection) (Changed, error) {
	if !kept.Sealed() {
		return s.changeClear(ctx, c, kept)
	}
	d, err := Describe(kept)
	if err != nil {
		return Changed{}, err
	}
	if len(c.Fields) == 0 {
		c.Fields = d.Fields
	}
	by, done := cmp.Or(c.KMS, d.KMSConnID), "resealed"
	switch c.Action {
	case ActionSeal:
		if d.KMSConnID != c.KMS || !sameFields(c.Fields, d.Fields) {
			return Changed{}, sealedAlready(d)
		}
		if len(d.Ignored) == 0 {
			return unchanged("sealed already"), nil
		}
		done = "sealed"
	case ActionRotate:
		if d.KMSConnID != c.KMS {
			return unchanged("sealed by the KMS %q", d.KMSConnID), nil
		}
		by = cmp.Or(c.To, c.KMS)
		// A key that another change has shown saves the call of the KMS.
		if key, ok := s.present.Load(by); ok && c.leaves(by, d.Key, key) {
			return unchanged("sealed by its present key"), nil
		}
	}
	if len(d.Ignored) > 0 && c.Action != ActionSeal {
		return Changed{}, valueInClear(d)
	}
	plain, err := s.keyring.Unseal(ctx, c.ID, kept, s.find)
	if err != nil {
		return Changed{}, err
	}
	if c.Action == ActionUnseal {
		return Changed{Connection: plain, Done: "unsealed"}, nil
	}
	takeOver(plain, kept, d.Ignored)
	to, now, err := s.seal(ctx, c.ID, plain, by, c.Fields)
	if err != nil {
		return Changed{}, err
	}
	if c.leaves(by, d.Key, now.Key) {
		return unchanged("sealed by its present key"), nil
	}
	return sealedBy(to, now, done), nil
}

// leaves reports whether a rotation leaves a connection as it is: the KMS stays the same, and
// so would its key.
func (c Change) leaves(by, key string, present any) bool {
	return c.Action == ActionRotate && by == c.KMS && !c.All && present == key
}

// changeClear is change for a connection that is not sealed.
func (s *Sealer) changeClear(
	ctx context.Context, c Change, plain *conn.Connection,
) (Changed, error) {
	switch c.Action {
	case ActionSeal:
	case ActionReseal:
		return Changed{}, notSealed()
	default:
		return unchanged("not sealed"), nil
	}
	to, now, err := s.seal(ctx, c.ID, plain, c.KMS, c.Fields)
	if err != nil {
		return Changed{}, err
	}
	return sealedBy(to, now, "sealed"), nil
}

// seal seals, and makes sure that the same comes out again.
func (s *Sealer) seal(
	ctx context.Context, id string, plain *conn.Connection, by string, fields []string,
) (*conn.Connection, Description, error) {
	to, err := s.keyring.Seal(ctx, id, plain, by, fields, s.find)
	if err != nil {
		return nil, Description{}, err
	}
	d, err := Describe(to)
	if err != nil {
		return nil, d, err
	}
	s.present.Store(by, d.Key)
	back, err := s.keyring.Unseal(ctx, id, to, s.find)
	if err != nil {
		return nil, d, err
	}
	if !back.Equal(plain) {
		return nil, d, failed("what was sealed does not open to the same")
	}
	return to, d, nil
}

// takeOver puts what was typed in clear beside a sealed form in place of what is sealed.
func takeOver(plain, kept *conn.Connection, fields []string) {
	to, from := fieldsOf(plain), fieldsOf(kept)
	for _, name := range fields {
		switch name {
		case "password":
			plain.Password = kept.Password
		case "port":
			plain.Port = kept.Port
		default:
			*to[name] = *from[name]
		}
	}
}

// sameFields compares names in any order; the extra is always among them.
func sameFields(a, b []string) bool {
	set := func(names []string) []string {
		m := map[string]bool{"extra": true}
		for _, name := range names {
			m[name] = true
		}
		return slices.Sorted(maps.Keys(m))
	}
	return slices.Equal(set(a), set(b))
}

func sealedBy(to *conn.Connection, d Description, done string) Changed {
	return Changed{
		Connection: to, Done: done,
		Note: fmt.Sprintf("by the KMS %q: %s", d.KMSConnID, strings.Join(d.Fields, ", ")),
	}
}

func unchanged(format string, args ...any) Changed {
	return Changed{Done: "unchanged", Note: fmt.Sprintf(format, args...)}
}

func notSealed() *conn.Error {
	return &conn.Error{
		Kind: conn.Invalid, Reason: "the connection is not sealed",
		Hint: `"connfs seal" does that`,
	}
}

func sealedAlready(d Description) *conn.Error {
	return &conn.Error{
		Kind: conn.Invalid, Hint: `"connfs reseal" changes that`,
		Reason: fmt.Sprintf("it is sealed already, by the KMS %q: %s",
			d.KMSConnID, strings.Join(d.Fields, ", ")),
	}
}

func valueInClear(d Description) *conn.Error {
	return &conn.Error{
		Kind: conn.Invalid,
		Reason: "beside what is sealed it holds a value in clear, which readers do not get: " +
			strings.Join(d.Ignored, ", "),
		Hint: fmt.Sprintf(`"connfs seal --kms %s" seals that in place of the old one`,
			d.KMSConnID),
	}
}
