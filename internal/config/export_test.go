package config

import "io/fs"

// SetOwner makes a source take owner's word for who owns a file, by its name.
func (s *Source) SetOwner(owner func(name string) uint32) {
	s.owner = func(info fs.FileInfo) uint32 { return owner(info.Name()) }
}

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
