package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/integration/servers"
)

// crowdSize is how many readers want the same id at once.
const crowdSize = 1000

// crowd has many read one id that is not cached. The table is locked until all of them
// wait, and PostgreSQL's own log counts the queries.
func crowd(b *bench) {
	s := servers.StartPostgres(b)
	s.Exec("airflow", fmt.Sprintf(metastoreTable, ""))
	s.Exec("airflow", rows(0, 10, ""))
	s.Exec("airflow", "ALTER SYSTEM SET log_statement = 'all'")
	s.Exec("airflow", "SELECT pg_reload_conf()")
	d := b.connfsWith("crowd", "c0", auditFile, `timeout = "30s"`, `ttl = "60s"`,
		sqlMetastore(s.URL("airflow", s.Password, "airflow", "sslmode=disable")))
	var paths []string
	for range crowdSize {
		paths = append(paths, d.file("c1"))
	}
	c := b.client()
	ctx := context.Background()
	lock, err := s.Connect(ctx, "airflow")
	b.must(err)
	defer func() { _ = lock.Close(ctx) }()
	_, err = lock.Exec(ctx, "BEGIN; LOCK TABLE connection IN ACCESS EXCLUSIVE MODE").ReadAll()
	b.must(err)
	before := queries(s)
	c.send(question{Paths: paths, AtOnce: true})
	for queries(s) == before || c.opening() < crowdSize {
		time.Sleep(10 * time.Millisecond)
	}
	began := time.Now()
	_, err = lock.Exec(ctx, "COMMIT").ReadAll()
	b.must(err)
	times := c.receive().Times
	took := time.Since(began)
	asked := queries(s) - before
	verdict := "missed"
	if asked == 1 {
		verdict = "met"
	}
	table([]string{
		"readers at once", "answered", "queries, by PostgreSQL's log", "target",
		"from the database's answer to the last reader's, ms",
	},
		[][]string{
			{
				fmt.Sprint(crowdSize), fmt.Sprint(len(times)), fmt.Sprint(asked), "1: " + verdict,
				millis(took),
			},
		})
}

// queries returns how often the database was asked for a connection, by its log.
func queries(s *servers.Postgres) int {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return bytes.Count(text, []byte("WHERE c.conn_id ="))
}

// opening returns how many threads of the client wait in openat(2).
func (c *client) opening() int {
	n := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", c.pid))
	for _, path := range tasks {
		if text, err := os.ReadFile(path); err == nil &&
			bytes.HasPrefix(text, fmt.Appendf(nil, "%d ", unix.SYS_OPENAT)) {
			n++
		}
	}
	return n
}
