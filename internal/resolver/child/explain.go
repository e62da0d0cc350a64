package child

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
)

// explain returns what each backend answers for id. If connfs could not serve what a backend
// holds, because it is too large, the answer says that instead of "found".
func (s *server) explain(ctx context.Context, id string) []resolver.Answer {
	all := answers(s.path.Explain(ctx, id))
	for i := range all {
		if a := &all[i]; a.Decides && a.Result == "found" {
			if err := s.serves(ctx, id); err != nil {
				a.Result, a.Kind, a.Reason, a.Hint = err.Kind.String(), err.Kind, err.Reason,
					err.Hint
			}
		}
	}
	return all
}

// serves returns why a read of id would fail, and nil if it would not.
func (s *server) serves(ctx context.Context, id string) *conn.Error {
	found, err := s.path.Search(ctx, id)
	if err == nil {
		_, err = render(id, found.Connection, found.Source, conn.FormatJSON)
	}
	var e *conn.Error
	errors.As(err, &e)
	return e
}

// unsealer is the keyring as the search path uses it.
type unsealer struct{ *kms.Keyring }

// Describe says which KMS and key a sealed connection names, which fields are sealed, and
// which fields stand there in clear and are not read.
func (unsealer) Describe(sealed *conn.Connection) resolve.Seal {
	d, err := kms.Describe(sealed)
	if err != nil {
		return resolve.Seal{Words: "a form that cannot be read"}
	}
	text := fmt.Sprintf("kms %q (%s, %s: %s), key %q", d.KMSConnID, d.KMSType, d.Mode,
		strings.Join(d.Fields, ", "), d.Key)
	if len(d.Ignored) > 0 {
		text += fmt.Sprintf(", and not read in clear: %s", strings.Join(d.Ignored, ", "))
	}
	return resolve.Seal{KMS: d.KMSConnID, Key: d.Key, Words: text}
}
