package resolver

import (
	"context"
	"encoding/json"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/cache"
)

// The actions of a [SealRequest].
const (
	ActionSeal   = "seal"
	ActionUnseal = "unseal"
	ActionReseal = "reseal" // with a new data key, or for another KMS
	ActionRotate = "rotate" // reseal, if a KMS still seals it
)

// AllFields as the only field of a request stands for all fields that can be sealed. In a
// row of the metastore these are all but conn_type, which Airflow needs.
const AllFields = "all"

// SealRequest is the question of OpSeal.
type SealRequest struct {
	Action string `json:"action"`
	// List asks only for the ids of the rows that the action is for: to seal, all rows of
	// the metastore; for the other actions those that are sealed, by KMS if it is named.
	List bool   `json:"list,omitempty"`
	ID   string `json:"id"`
	// Row: the connection is a row of the metastore. Otherwise the body is the value as a
	// string backend keeps it, and the answer's body is the new value.
	Row bool `json:"row,omitempty"`
	// KMS is the KMS that is to seal (seal, reseal), or that has sealed (rotate). Empty
	// for reseal: the one that has sealed.
	KMS    string   `json:"kms,omitempty"`
	To     string   `json:"to,omitempty"`     // rotate: the new KMS; empty: the same
	All    bool     `json:"all,omitempty"`    // rotate: also what its present key sealed
	Fields []string `json:"fields,omitempty"` // empty: the default, or what is sealed already
	DryRun bool     `json:"dry_run,omitempty"`
}

// SealAnswer says what became of one connection.
type SealAnswer struct {
	// Done is "sealed", "unsealed", "resealed" or "unchanged".
	Done string `json:"done"`
	// Note says how, or why nothing was changed.
	Note string `json:"note,omitempty"`
}

// sealTimeout is the least time for one connection: to read it, call the KMS up to three
// times, and write it.
const sealTimeout = 20 * time.Second

// Seal has a child seal, unseal or reseal one connection. If the child is cut off in the
// middle, another does it again, which does no harm to what is done already. value is nil
// for a row, and may lie in locked memory. The new value, if there is one, is a value of the
// cache, which the caller releases.
func (p *Pool) Seal(
	ctx context.Context, req *SealRequest, value []byte,
) (*SealAnswer, *cache.Value, error) {
	question, err := json.Marshal(req)
	if err != nil {
		return nil, nil, err
	}
	f := Frame{Op: OpSeal, Meta: question, Body: value}
	a, err := p.doWithin(ctx, f, max(sealTimeout, 4*p.cfg.Timeout))
	if err != nil {
		return nil, nil, err
	}
	done := new(SealAnswer)
	if err := json.Unmarshal(a.meta, done); err != nil {
		if a.value != nil {
			a.value.Release()
		}
		return nil, nil, conn.Errorf(conn.Failed, "", "the resolver's answer is not readable")
	}
	return done, a.value, nil
}

// SealRows returns the ids of the rows of the metastore that a request is for, or an error where
// there is no KMS of the name that it gives.
func (p *Pool) SealRows(ctx context.Context, req SealRequest) ([]string, error) {
	req.List = true
	question, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	a, err := p.alone(ctx,
		Frame{Op: OpSeal, Meta: question, Timeout: max(time.Minute, p.cfg.Timeout)},
		"listing the rows")
	if err != nil {
		return nil, err
	}
	l, err := DecodeListing(a.meta, a.body)
	if err != nil {
		return nil, err
	}
	return l.IDs, nil
}
