package resolve_test

import (
	"testing"

	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
)

// BenchmarkSQLiteConnection looks up one encrypted connection in a metastore at rest.
func BenchmarkSQLiteConnection(b *testing.B) {
	for _, version := range []string{"2.10", "3.3"} {
		b.Run(version, func(b *testing.B) {
			e := readExpected(b, version)
			fernet, err := kms.NewFernet(e.FernetKey)
			if err != nil {
				b.Fatal(err)
			}
			p, err := resolve.Open(&resolve.Settings{Metastore: &resolve.MetastoreSettings{URL: "sqlite:///" + copyMetastore(b, version)}}, fernet, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			for b.Loop() {
				if _, _, err := p.Connection(b.Context(), "plain_all"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
