// Command demo makes a small Airflow home to try connfs on: an airflow.cfg with a
// fresh Fernet key, and a metastore with the connection table of Airflow 2.10.
//
//	demo DIRECTORY
//
// The passwords in it are made up. Nothing of Airflow is needed.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fernet/fernet-go"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// table is the table as Airflow 2.10 creates it.
const table = `CREATE TABLE connection (
	id INTEGER NOT NULL,
	conn_id VARCHAR(250) NOT NULL,
	conn_type VARCHAR(500) NOT NULL,
	description VARCHAR(5000),
	host VARCHAR(500),
	schema VARCHAR(500),
	login TEXT,
	password TEXT,
	port INTEGER,
	is_encrypted BOOLEAN,
	is_extra_encrypted BOOLEAN,
	extra TEXT,
	CONSTRAINT connection_pkey PRIMARY KEY (id),
	CONSTRAINT connection_conn_id_uq UNIQUE (conn_id)
)`

// connection is one row; password and extra are stored encrypted.
type connection struct {
	id, connType, host, schema, login, password string
	port                                        int
	extra                                       string
}

var connections = []connection{
	{
		"billing_db", "postgres", "db.billing.example", "ledger", "billing", "not-a-real-password",
		5432, `{"sslmode": "require"}`,
	},
	{
		"billing_api", "http", "https://api.billing.example", "", "billing", "not-a-real-token",
		443, `{"timeout": 30}`,
	},
	{
		"warehouse", "snowflake", "wh.example", "reports", "analyst", "made-up-as-well", 443,
		`{"account": "demo"}`,
	},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo DIRECTORY")
		os.Exit(2)
	}
	if err := makeHome(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// makeHome writes airflow.cfg and airflow.db into the directory dir, which it
// makes.
func makeHome(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var key fernet.Key
	if err := key.Generate(); err != nil {
		return fmt.Errorf("making a Fernet key: %w", err)
	}
	cfg := fmt.Sprintf("[core]\nfernet_key = %s\n\n[database]\nsql_alchemy_conn = sqlite:///%s\n",
		key.Encode(), filepath.Join(dir, "airflow.db"))
	if err := os.WriteFile(filepath.Join(dir, "airflow.cfg"), []byte(cfg), 0o600); err != nil {
		return err
	}
	if err := makeMetastore(filepath.Join(dir, "airflow.db"), &key); err != nil {
		return fmt.Errorf("making the metastore: %w", err)
	}
	return nil
}

func makeMetastore(path string, key *fernet.Key) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(table); err != nil {
		return err
	}
	for _, c := range connections {
		password, err := fernet.EncryptAndSign([]byte(c.password), key)
		if err != nil {
			return err
		}
		extra, err := fernet.EncryptAndSign([]byte(c.extra), key)
		if err != nil {
			return err
		}
		if _, err := db.Exec(`INSERT INTO connection (conn_id, conn_type, host, schema, login, password, port, is_encrypted, is_extra_encrypted, extra)
			VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, ?)`, c.id, c.connType, c.host, c.schema, c.login, string(password), c.port,
			string(extra)); err != nil {
			return err
		}
	}
	return db.Close()
}
