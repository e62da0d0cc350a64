package child

import (
	"bytes"
	"encoding/gob"

	"github.com/connfs/connfs/internal/resolver"
)

// identity answers with the logins of this child's backends.
func (s *server) identity(f *resolver.Frame) {
	all := s.path.Identities()
	if len(all) == 0 {
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

// adopt takes the logins of a predecessor. What cannot be read is no reason to fail:
// this child logs in itself.
func (s *server) adopt(blob []byte) {
	var all map[string][]byte
	if s.path != nil && gob.NewDecoder(bytes.NewReader(blob)).Decode(&all) == nil {
		s.path.Adopt(all)
	}
}
