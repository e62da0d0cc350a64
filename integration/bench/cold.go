package main

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/connfs/connfs/integration/servers"
)

// coldIDs is how many ids one round reads, each once.
const coldIDs = 100

// source is a backend that holds the connections c0, c1 and so on, and its own client.
type source struct {
	name, client string
	config       string
	ask          func(id string) error // by the client, on a connection that is open
}

// cold measures the first read of an id, which asks the backend, beside the same question
// put by the backend's own client, on the same ids in the same rounds.
func cold(b *bench) {
	n := coldIDs * (b.rounds + 1)
	var out [][]string
	for _, open := range []func(*bench, int) source{
		environmentFile, sqliteFile, postgres, mariadb, parameterStore, vault,
	} {
		b.during(func() { out = append(out, b.coldReads(open(b, n))) })
	}
	fmt.Printf("Each id once, open + read + close; %d rounds of %d ids; ms.\n\n", b.rounds, coldIDs)
	table(
		[]string{
			"backend", "client", "client p50", "connfs p50", "ratio", "difference", "client p99",
			"connfs p99", "first read of an idle daemon",
		},
		out,
	)
}

func (b *bench) coldReads(s source) []string {
	d := b.connfsWith("cold "+s.name, "c0", auditFile, s.config)
	c := b.client()
	// Both are warmed up alike; the daemon was idle for longer than a child lives then.
	b.must(s.ask("c1"))
	time.Sleep(6 * time.Second)
	first := c.ask(question{Paths: []string{d.file("c1")}}).Times[0]
	var ours, theirs []time.Duration
	for round := range b.rounds {
		var paths, ids []string
		for i := range coldIDs {
			ids = append(ids, fmt.Sprintf("c%d", (round+1)*coldIDs+i))
			paths = append(paths, d.file(ids[i]))
		}
		client := func() {
			for _, id := range ids {
				began := time.Now()
				b.must(s.ask(id))
				theirs = append(theirs, time.Since(began))
			}
		}
		if round%2 == 0 {
			client()
		}
		ours = append(ours, c.ask(question{Paths: paths}).Times...)
		if round%2 != 0 {
			client()
		}
	}
	x, y := at(theirs, 0.5), at(ours, 0.5)
	return []string{
		s.name, s.client, millis(x), millis(y), ratio(y, x), millis(y - x),
		millis(at(theirs, 0.99)), millis(at(ours, 0.99)), millis(first),
	}
}

// row asks a database as connfs does: by the whole row.
func row(db *sql.DB, placeholder string) func(id string) error {
	return func(id string) error {
		rows, err := db.Query("SELECT * FROM connection WHERE conn_id = "+placeholder, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		cells := make([]any, len(columns))
		for i := range cells {
			cells[i] = new(any)
		}
		if !rows.Next() {
			return fmt.Errorf("no row %s: %w", id, rows.Err())
		}
		return rows.Scan(cells...)
	}
}

func sqliteFile(b *bench, n int) source {
	path := b.sqlite("cold", n)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	b.must(err)
	b.Cleanup(func() { db.Close() })
	return source{
		"metastore, SQLite", "modernc.org/sqlite, open database", sqliteMetastore(path),
		row(db, "?"),
	}
}

func postgres(b *bench, n int) source {
	s := servers.StartPostgres(b)
	s.Exec("airflow", fmt.Sprintf(metastoreTable, ""))
	s.Exec("airflow", rows(0, n, ""))
	db, err := sql.Open(
		"pgx",
		fmt.Sprintf(
			"host=127.0.0.1 port=%d user=airflow password=%s dbname=airflow sslmode=disable",
			s.Port, s.Password,
		),
	)
	b.must(err)
	b.Cleanup(func() { db.Close() })
	return source{
		"metastore, PostgreSQL", "pgx, open connection, prepared",
		sqlMetastore(s.URL("airflow", s.Password, "airflow", "sslmode=disable")), row(db, "$1"),
	}
}

func mariadb(b *bench, n int) source {
	s := servers.StartMariaDB(b)
	s.Exec("airflow", fmt.Sprintf(metastoreTable, "`"))
	s.Exec("airflow", rows(0, n, "`"))
	return source{
		"metastore, MariaDB", "go-sql-driver, open connection",
		sqlMetastore(s.URL("airflow", s.Password, "airflow")), row(s.Open("airflow"), "?"),
	}
}

func sqlMetastore(url string) string {
	return fmt.Sprintf("[metastore]\nurl = %q\ndags = false", url)
}

// environmentFile is beside reading the same file into memory.
func environmentFile(b *bench, n int) source {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "AIRFLOW_CONN_C%d=%s", i, fileText(extra()))
	}
	path := b.write("environment", text.String())
	return source{"environment file", fmt.Sprintf("read(2) of the whole file, %d KiB",
		text.Len()>>10), fmt.Sprintf("[environment]\nfile = %q", path),
		func(string) error { _, err := os.ReadFile(path); return err }}
}
