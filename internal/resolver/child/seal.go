package child

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
)

// sealer answers OpSeal.
type sealer struct {
	path    *resolve.Path
	keyring *kms.Keyring
	fernet  resolve.Encrypter // nil: no key is configured

	present sync.Map // which key a KMS seals with at present, by kms_conn_id
}

func (s *sealer) answer(ctx context.Context, f *resolver.Frame) (meta, body []byte, digest uint64, err error) {
	var req resolver.SealRequest
	if err := json.Unmarshal(f.Meta, &req); err != nil {
		return nil, nil, 0, conn.Errorf(conn.Failed, "", "the question about sealing is not readable")
	}
	if req.List {
		ids, err := s.rows(ctx, &req)
		meta, body = resolver.EncodeListing(&resolver.Listing{IDs: ids, Complete: true})
		return meta, body, 0, err
	}
	var done *resolver.SealAnswer
	if req.Row {
		done, err = s.row(ctx, &req)
	} else {
		done, body, err = s.value(ctx, &req, string(f.Body))
		digest = 1 // any but zero: it goes into locked memory
	}
	if err != nil {
		return nil, nil, 0, err
	}
	meta, err = json.Marshal(done)
	return meta, body, digest, err
}

func (s *sealer) metastore() (*resolve.Metastore, error) {
	if m, ok := resolve.Find[*resolve.Metastore](s.path); ok {
		return m, nil
	}
	return nil, conn.Errorf(conn.Failed, "", "no metastore is configured")
}

// rows returns the ids of the rows that an action is for.
func (s *sealer) rows(ctx context.Context, req *resolver.SealRequest) ([]string, error) {
	m, err := s.metastore()
	if err != nil {
		return nil, err
	}
	if req.Action == resolver.ActionSeal {
		ids, err := m.List(ctx)
		slices.Sort(ids)
		return slices.Compact(ids), err
	}
	sealed, err := m.SealedRows(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, row := range sealed {
		// What cannot be read is listed, so that it fails with its reason.
		if d, err := kms.Describe(row.Sealed); req.KMS == "" || err == nil && d.KMSConnID == req.KMS {
			ids = append(ids, row.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// row does one row of the metastore.
func (s *sealer) row(ctx context.Context, req *resolver.SealRequest) (*resolver.SealAnswer, error) {
	m, err := s.metastore()
	if err != nil {
		return nil, err
	}
	row, err := m.Row(ctx, req.ID)
	if err != nil {
		return nil, err
	}
	if len(req.Fields) == 1 && req.Fields[0] == resolver.AllFields {
		req.Fields = slices.DeleteFunc(kms.AllFields(), func(name string) bool { return name == "conn_type" })
	}
	to, done, err := s.turn(ctx, req, row.Connection)
	if err != nil || to == nil {
		return done, err
	}
	if req.Action == resolver.ActionUnseal && s.fernet == nil {
		done.Note = "in clear: no fernet_key is configured"
	}
	if req.DryRun {
		return done, nil
	}
	return done, m.Rewrite(ctx, row, to, s.fernet)
}

// value does one value of a string backend, and returns the new one.
func (s *sealer) value(ctx context.Context, req *resolver.SealRequest, text string) (*resolver.SealAnswer, []byte, error) {
	c, err := conn.Parse(text)
	if err == nil && !c.Sealed() {
		err = c.Validate()
	}
	if err != nil {
		return nil, nil, &conn.Error{Kind: conn.Invalid, Source: "standard input", Reason: reason(err)}
	}
	if req.Action != resolver.ActionSeal && !c.Sealed() {
		return nil, nil, notSealed("standard input")
	}
	all := len(req.Fields) == 1 && req.Fields[0] == resolver.AllFields
	if all {
		req.Fields = kms.AllFields()
	}
	to, done, err := s.turn(ctx, req, c)
	if err != nil {
		return nil, nil, err
	}
	if to == nil { // as it should be already
		to = c
	}
	body, err := written(req.ID, to)
	if err != nil {
		return nil, nil, err
	}
	if !to.Sealed() {
		return done, body, nil
	}
	// What a backend will keep is this text, and not the connection that it was made of.
	if back, err := conn.Parse(string(body)); err != nil || !equalBut(back, to) {
		e := conn.Errorf(conn.Invalid, "", "the connection has a field for which the JSON form has no text: an empty conn_type, or the port 0")
		e.Hint = "seal it with --fields all"
		return nil, nil, e
	}
	return done, body, nil
}

// written returns a connection as a string backend keeps it: in the JSON form, or, where
// there is nothing but the sealed form, as that.
func written(id string, c *conn.Connection) ([]byte, error) {
	if d, err := kms.Describe(c); c.Sealed() && err == nil && slices.Equal(d.Fields, kms.AllFields()) {
		text, _ := c.Extra.Reveal()
		return []byte(text + "\n"), nil
	}
	if c.Sealed() {
		return c.JSON()
	}
	return render(id, c, "", conn.FormatJSON)
}

// equalBut compares but for the white space in the sealed form.
func equalBut(a, b *conn.Connection) bool {
	x, y := *a, *b
	x.Extra, y.Extra = conn.Secret{}, conn.Secret{}
	return x.Equal(&y) && a.Sealed() && b.Sealed()
}

// turn returns what the connection is to be, as the action says, once that is known to
// open to the same again; nil where it is so already. was is the connection as it is
// stored.
func (s *sealer) turn(ctx context.Context, req *resolver.SealRequest, was *conn.Connection) (*conn.Connection, *resolver.SealAnswer, error) {
	if !was.Sealed() {
		return s.first(ctx, req, was)
	}
	d, err := kms.Describe(was)
	if err != nil {
		return nil, nil, err
	}
	by, fields, done := cmp.Or(req.KMS, d.KMSConnID), req.Fields, "resealed"
	if len(fields) == 0 {
		fields = d.Fields
	}
	switch req.Action {
	case resolver.ActionSeal:
		if d.KMSConnID != req.KMS || !sameFields(fields, d.Fields) {
			e := conn.Errorf(conn.Invalid, "", "it is sealed already, by the KMS %q: %s", d.KMSConnID, strings.Join(d.Fields, ", "))
			e.Hint = "\"connfs reseal\" changes that"
			return nil, nil, e
		}
		if len(d.Ignored) == 0 {
			return nil, unchanged("sealed already"), nil
		}
		done = "sealed"
	case resolver.ActionRotate:
		if d.KMSConnID != req.KMS {
			return nil, unchanged("sealed by the KMS %q", d.KMSConnID), nil
		}
		by = cmp.Or(req.To, req.KMS)
		if present, ok := s.present.Load(by); ok && by == req.KMS && !req.All && present == d.Key {
			return nil, unchanged("sealed by its present key"), nil
		}
	}
	if len(d.Ignored) > 0 && req.Action != resolver.ActionSeal {
		e := conn.Errorf(conn.Invalid, "", "beside what is sealed it holds a value in clear, which readers do not get: %s", strings.Join(d.Ignored, ", "))
		e.Hint = fmt.Sprintf("\"connfs seal --kms %s\" seals that in place of the old one", d.KMSConnID)
		return nil, nil, e
	}
	plain, err := s.unseal(ctx, req.ID, was)
	if err != nil {
		return nil, nil, err
	}
	if req.Action == resolver.ActionUnseal {
		return plain, &resolver.SealAnswer{Done: "unsealed"}, nil
	}
	takeOver(plain, was, d.Ignored)
	to, now, err := s.seal(ctx, req.ID, plain, by, fields)
	if err != nil {
		return nil, nil, err
	}
	if req.Action == resolver.ActionRotate && by == req.KMS && !req.All && now.Key == d.Key {
		return nil, unchanged("sealed by its present key"), nil
	}
	return to, described(done, now), nil
}

// first is turn for a connection that is not sealed.
func (s *sealer) first(ctx context.Context, req *resolver.SealRequest, plain *conn.Connection) (*conn.Connection, *resolver.SealAnswer, error) {
	switch req.Action {
	case resolver.ActionSeal:
	case resolver.ActionReseal:
		return nil, nil, notSealed("")
	default:
		return nil, unchanged("not sealed"), nil
	}
	to, now, err := s.seal(ctx, req.ID, plain, req.KMS, req.Fields)
	if err != nil {
		return nil, nil, err
	}
	return to, described("sealed", now), nil
}

// seal seals, and makes sure that the same comes out again.
func (s *sealer) seal(ctx context.Context, id string, plain *conn.Connection, by string, fields []string) (*conn.Connection, kms.Description, error) {
	to, err := s.keyring.Seal(ctx, id, plain, by, fields, s.find)
	if err != nil {
		return nil, kms.Description{}, err
	}
	d, err := kms.Describe(to)
	if err != nil {
		return nil, d, err
	}
	s.present.Store(by, d.Key)
	back, err := s.unseal(ctx, id, to)
	if err != nil {
		return nil, d, err
	}
	if !back.Equal(plain) {
		return nil, d, conn.Errorf(conn.Failed, "", "what was sealed does not open to the same")
	}
	return to, d, nil
}

func (s *sealer) unseal(ctx context.Context, id string, sealed *conn.Connection) (*conn.Connection, error) {
	return s.keyring.Unseal(ctx, id, sealed, s.find)
}

// find looks up the connection of a KMS.
func (s *sealer) find(ctx context.Context, id string) (*conn.Connection, error) {
	c, _, err := s.path.Connection(ctx, id)
	return c, err
}

// takeOver puts what was typed in clear beside a sealed form in place of what is sealed.
func takeOver(plain, was *conn.Connection, fields []string) {
	for name, take := range map[string]func(){
		"conn_type":   func() { plain.Type = was.Type },
		"description": func() { plain.Description = was.Description },
		"host":        func() { plain.Host = was.Host },
		"login":       func() { plain.Login = was.Login },
		"password":    func() { plain.Password = was.Password },
		"port":        func() { plain.Port = was.Port },
		"schema":      func() { plain.Schema = was.Schema },
	} {
		if slices.Contains(fields, name) {
			take()
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

func described(done string, d kms.Description) *resolver.SealAnswer {
	return &resolver.SealAnswer{Done: done, Note: fmt.Sprintf("by the KMS %q: %s", d.KMSConnID, strings.Join(d.Fields, ", "))}
}

func unchanged(format string, args ...any) *resolver.SealAnswer {
	return &resolver.SealAnswer{Done: "unchanged", Note: fmt.Sprintf(format, args...)}
}

func notSealed(source string) *conn.Error {
	e := conn.Errorf(conn.Invalid, source, "the connection is not sealed")
	e.Hint = "\"connfs seal\" does that"
	return e
}
