package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// metastoreTable is Airflow 2.10's, in words that every database takes; the column
// schema, which MySQL wants quoted, has %[1]s around it.
const metastoreTable = `CREATE TABLE connection (id INTEGER NOT NULL PRIMARY KEY, conn_id VARCHAR(250) NOT NULL UNIQUE, conn_type VARCHAR(500) NOT NULL,
	description VARCHAR(5000), host VARCHAR(500), %[1]sschema%[1]s VARCHAR(500), login TEXT, password TEXT, port INTEGER,
	is_encrypted BOOLEAN, is_extra_encrypted BOOLEAN, extra TEXT)`

// fileSize is the size of a connection's file, in bytes.
const fileSize = 600

// fields are the columns of every connection. The extra fills the file up to fileSize.
var fields = struct {
	kind, host, login, password, schema string
	port                                int
}{"postgres", "db.example", "etl", "correct horse", "dwh", 5432}

func fileText(extra string) string {
	f := fields
	return fmt.Sprintf(`{"conn_type":%q,"description":null,"host":%q,"login":%q,"password":%q,"schema":%q,"port":%d,"extra":%s}`+"\n",
		f.kind, f.host, f.login, f.password, f.schema, f.port, extra)
}

func extra() string {
	pad := func(n int) string {
		text, _ := json.Marshal(map[string]string{"pad": strings.Repeat("x", n)})
		return string(text)
	}
	return pad(fileSize - len(fileText(pad(0))))
}

// rows returns an INSERT of n connections c0, c1 and so on, from the number first.
func rows(first, n int, quote string) string {
	f := fields
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO connection (id, conn_id, conn_type, host, login, password, "+
		"%[1]sschema%[1]s, port, is_encrypted, is_extra_encrypted, extra) VALUES ", quote)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,'c%d','%s','%s','%s','%s','%s',%d,FALSE,FALSE,'%s')", first+i+1,
			first+i, f.kind, f.host, f.login, f.password, f.schema, f.port, extra())
	}
	return b.String()
}

// sqlite makes a metastore of n connections and returns its path.
func (b *bench) sqlite(name string, n int) string {
	path := filepath.Join(b.dir, name+".db")
	db, err := sql.Open("sqlite", path)
	b.must(err)
	defer db.Close()
	_, err = db.Exec(fmt.Sprintf(metastoreTable, ""))
	b.must(err)
	tx, err := db.Begin()
	b.must(err)
	for i := 0; i < n; i += 500 {
		_, err = tx.Exec(rows(i, min(500, n-i), ""))
		b.must(err)
	}
	b.must(tx.Commit())
	return path
}

// sqliteMetastore is the configuration of such a metastore.
func sqliteMetastore(path string) string {
	return fmt.Sprintf("[metastore]\nurl = \"sqlite:///%s\"", path)
}
