package metastore_test

import (
	"testing"

	"github.com/connfs/connfs/resolve/metastore"
)

// BenchmarkSQLiteConnection looks up one encrypted connection in a metastore at rest.
func BenchmarkSQLiteConnection(b *testing.B) {
	for _, version := range []string{"2.10", "3.3"} {
		b.Run(version, func(b *testing.B) {
			e := readExpected(b, version)
			p := openPath(b, metastore.Settings{URL: "sqlite:///" + copyMetastore(b, version),
				FernetKey: e.FernetKey})
			for b.Loop() {
				if _, _, err := p.Connection(b.Context(), "plain_all"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
