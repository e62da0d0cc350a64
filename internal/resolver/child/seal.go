package child

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/metastore"
)

// sealer answers OpSeal. Package kms decides what sealing does to a connection.
type sealer struct {
	path   *resolve.Path
	kms    *kms.Sealer
	fernet metastore.Encrypter // nil: no key is configured
}

func (s *sealer) answer(
	ctx context.Context, f *resolver.Frame,
) (meta, body []byte, digest uint64, err error) {
	var req resolver.SealRequest
	if err := json.Unmarshal(f.Meta, &req); err != nil {
		return nil, nil, 0, conn.Errorf(
			conn.Failed, "", "the question about sealing is not readable",
		)
	}
	change := kms.Change{
		Action: kms.Action(req.Action), ID: req.ID, KMS: req.KMS, To: req.To, All: req.All,
		Fields:    req.Fields,
		AllFields: slices.Equal(req.Fields, []string{resolver.AllFields}),
	}
	if req.List {
		ids, err := s.rows(ctx, change)
		meta, body = resolver.EncodeListing(&resolver.Listing{IDs: ids, Complete: true})
		return meta, body, 0, err
	}
	var done kms.Changed
	if req.Row {
		done, err = s.row(ctx, change, req.DryRun)
	} else {
		body, done, err = s.value(ctx, change, string(f.Body))
		digest = 1 // any but zero: it goes into locked memory
	}
	if err != nil {
		return nil, nil, 0, err
	}
	meta, err = json.Marshal(resolver.SealAnswer{Done: done.Done, Note: done.Note})
	return meta, body, digest, err
}

func (s *sealer) metastore() (*metastore.Store, error) {
	if m, ok := resolve.Find[*metastore.Store](s.path); ok {
		return m, nil
	}
	return nil, conn.Errorf(conn.Failed, "", "no metastore is configured")
}

// rows returns the ids of the rows that a change is for.
func (s *sealer) rows(ctx context.Context, change kms.Change) ([]string, error) {
	m, err := s.metastore()
	if err != nil {
		return nil, err
	}
	if err := s.kms.Find(ctx, change.KMS, change.To); err != nil {
		return nil, err
	}
	if change.Action == kms.ActionSeal {
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
		if change.Concerns(row.Sealed) {
			ids = append(ids, row.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// row changes one row of the metastore, but for a dry run.
func (s *sealer) row(ctx context.Context, change kms.Change, dryRun bool) (kms.Changed, error) {
	m, err := s.metastore()
	if err != nil {
		return kms.Changed{}, err
	}
	row, err := m.Row(ctx, change.ID)
	if err != nil {
		return kms.Changed{}, err
	}
	done, err := s.kms.Row(ctx, change, row.Connection)
	if err != nil || done.Connection == nil {
		return done, err
	}
	if change.Action == kms.ActionUnseal && s.fernet == nil {
		done.Note = "in clear: no fernet_key is configured"
	}
	if dryRun {
		return done, nil
	}
	return done, m.Rewrite(ctx, row, done.Connection, s.fernet)
}

// value changes one value of a string backend, and returns the new one.
func (s *sealer) value(
	ctx context.Context, change kms.Change, text string,
) ([]byte, kms.Changed, error) {
	c, err := conn.Parse(text)
	if err == nil && !c.Sealed() {
		err = c.Validate()
	}
	if err != nil {
		return nil, kms.Changed{}, &conn.Error{
			Kind: conn.Invalid, Source: "standard input", Reason: reason(err),
		}
	}
	body, done, err := s.kms.Value(ctx, change, c)
	if err != nil {
		return nil, kms.Changed{}, err
	}
	if done.Connection != nil && !done.Connection.Sealed() {
		err = servable(body, "")
	}
	return body, done, err
}

// find looks up the connection of a KMS.
func (s *server) find(ctx context.Context, id string) (*conn.Connection, error) {
	c, _, err := s.path.Connection(ctx, id)
	return c, err
}
