package audit_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/connfs/connfs/internal/audit"
)

func BenchmarkWrite(b *testing.B) {
	l, err := audit.Open(audit.Config{File: filepath.Join(b.TempDir(), "audit.log")})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	e := audit.Entry{
		Time: time.Now(), Op: "open", Mount: "/conn", UID: 5001, GID: 50, PID: 7,
		RunAsUser: "billing", DAGs: "billing_*", ID: "warehouse_main", Allowed: true,
		Rule: "/etc/connfs/config.toml:7", Source: "metastore", Cached: true, Unique: 12,
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			l.Write(&e, time.Now().Add(5*time.Second))
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			mine := e
			for pb.Next() {
				l.Write(&mine, time.Now().Add(5*time.Second))
			}
		})
	})
}
