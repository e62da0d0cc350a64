package resolve

import (
	"context"
	"slices"

	"github.com/connfs/connfs/conn"
)

// Unsealer opens sealed connections: those whose extra holds a sealed form
// ([conn.Connection.Sealed]).
type Unsealer interface {
	// Unseal returns the connection that is sealed under id. find looks up the
	// connection of a KMS that the sealed form names, through the search path.
	// Its error is a *conn.Error, never of kind Absent.
	Unseal(ctx context.Context, id string, sealed *conn.Connection, find Finder) (
		*conn.Connection, error)
}

// Describer is an Unsealer that can say by what a connection is sealed.
type Describer interface {
	// Describe reads the sealed form, and calls no KMS.
	Describe(sealed *conn.Connection) Seal
}

// Seal is by what a connection is sealed where it is kept. The zero Seal: it is not sealed.
type Seal struct {
	KMS   string // its kms_conn_id
	Key   string // which key, as the KMS names it
	Words string // all that the form says, for people
}

// seal returns by what a connection is sealed; the zero Seal for nil, or where nobody can say.
func (p *Path) seal(sealed *conn.Connection) Seal {
	if d, ok := p.unsealer.(Describer); ok && sealed != nil {
		return d.Describe(sealed)
	}
	return Seal{}
}

// Finder looks a connection up.
type Finder = func(ctx context.Context, id string) (*conn.Connection, error)

// opening is the context key of the ids whose sealed forms are being opened.
type opening struct{}

// unseal opens the sealed connection of an id. The KMS that it names may itself be a
// connection of the path, sealed by yet another one; what leads back to itself is
// refused.
func (p *Path) unseal(ctx context.Context, id string, sealed *conn.Connection) (
	*conn.Connection, error) {
	if p.unsealer == nil {
		return nil, conn.Errorf(conn.KeyRejected, "",
			"the connection is sealed, and nothing here can open it")
	}
	ids, _ := ctx.Value(opening{}).([]string)
	if slices.Contains(ids, id) {
		return nil, &conn.Error{
			Kind: conn.KeyRejected, Reason: "the connection of its KMS is sealed by itself",
			Hint: "seal the connection that kms_conn_id names with another KMS, or define that " +
				"KMS as [kms.NAME]",
		}
	}
	ctx = context.WithValue(ctx, opening{}, append(slices.Clip(ids), id))
	c, err := p.unsealer.Unseal(ctx, id, sealed, p.find)
	if err != nil && conn.KindOf(err) == conn.Absent {
		return nil, &conn.Error{Kind: conn.Failed, Reason: "the KMS that the sealed connection " +
			"names is not there", Err: err}
	}
	return c, err
}

// find is the [Finder] of sealed forms.
func (p *Path) find(ctx context.Context, id string) (*conn.Connection, error) {
	c, _, err := p.Connection(ctx, id)
	return c, err
}
