package child

import (
	"bytes"
	"encoding/gob"

	"github.com/connfs/connfs/internal/resolver"
)

// logins are what one child hands to the next, so that it need not log in again.
type logins struct {
	Path map[string][]byte // of the backends, and what the breakers know; see resolve.Path
	KMS  map[string][]byte // of the [kms.NAME], by NAME
}

// identity answers with the logins of this child's backends and KMS.
func (s *server) identity(f *resolver.Frame) {
	all := logins{Path: s.path.Identities(), KMS: s.keyring.Identities()}
	if len(all.Path) == 0 && len(all.KMS) == 0 {
		s.reply(f, nil, nil, 0, nil)
		return
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(all); err != nil {
		s.reply(f, nil, nil, 0, err)
		return
	}
	// Any digest but zero: the blob goes into locked memory.
	s.reply(f, nil, b.Bytes(), 1, nil)
}

// adopt takes the logins of a predecessor. If it cannot read them, this child logs in
// itself.
func (s *server) adopt(blob []byte) {
	var all logins
	if s.failed == nil && gob.NewDecoder(bytes.NewReader(blob)).Decode(&all) == nil {
		s.path.Adopt(all.Path)
		s.keyring.Adopt(all.KMS)
	}
}
