package child

import (
	"context"

	"github.com/connfs/connfs/conn"
)

// check tries every backend, in the order of the path, then the Fernet key and every KMS.
func (s *server) check(ctx context.Context) []conn.Check {
	all := s.path.Check(ctx)
	if s.unusable != nil {
		all = append(all, conn.Check{Name: "metastore", Call: "fernet_key", Err: s.unusable})
	}
	for _, c := range s.keyring.Check(ctx, s.find) {
		c.Name = "kms " + c.Name
		all = append(all, c)
	}
	return all
}
