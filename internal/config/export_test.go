package config

// SetOwner makes a source take owner's word for who owns a file or a directory, by its path.
func (s *Source) SetOwner(owner func(path string) uint32) { s.ownerOf = owner }

// Contract is the table of keys, for the test of the example.
var Contract = func() (tables []struct {
	Name string
	Keys []string
}) {
	for _, k := range keys {
		tables = append(tables, struct {
			Name string
			Keys []string
		}{k.table, k.names})
	}
	return tables
}()
