package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fernet/fernet-go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// TestMain makes this binary the command connfs for the scripts, and for connfs's children, which
// are executed under that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"connfs": main})
}

// TestScripts runs testdata/script/*.txt. Each script has its own files, an Airflow of its own in
// $AIRFLOW, and $UID. Conditions are [root] and [dev_fuse].
//
//	grants FILE PATTERN...   writes FILE, a configuration with a [[grant]] for $UID; without a
//	                         PATTERN it has no grant
//	sealed KEYFILE           makes a key file, and rows in the metastore that a KMS "main" sealed
//	                         with it: sealed, and moved, which has the same extra; $SEALED is the
//	                         sealed form
//	append FILE OTHER        appends the text of OTHER to FILE
//	exitcode N COMMAND...    runs a command, which must end with exit code N, or "any"
//	oneline stdout|stderr    fails unless there is exactly one line
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setup,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "dev_fuse":
				_, err := os.Stat("/dev/fuse")
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"grants": grants, "sealed": sealed, "append": appendCommand,
			"exitcode": exitCodeCommand, "oneline": oneLineCommand,
		},
	})
}

func setup(e *testscript.Env) error {
	// Nothing of whoever runs the tests: no variables of Airflow, no service manager.
	var clean []string
	for _, entry := range e.Vars {
		if !strings.HasPrefix(entry, "AIRFLOW") && !strings.HasPrefix(entry, "CONNFS") {
			clean = append(clean, entry)
		}
	}
	e.Vars = clean
	home := filepath.Join(e.WorkDir, "airflow")
	if err := makeAirflow(home); err != nil {
		return fmt.Errorf("making an Airflow: %w", err)
	}
	e.Setenv("AIRFLOW", home)
	e.Setenv("UID", strconv.Itoa(os.Geteuid()))
	return nil
}

const (
	fernetKey = "-6GE8YNTIRPIvdL1q6_QBUTi2OhZXDiTwnDwZEajuWM="
	otherKey  = "4XpQd7I9y5gxn1w6X3OfEpR6FU6Ymjvxo4lnaOqq4xU="
)

// makeAirflow makes an airflow.cfg and a metastore: billing_db and warehouse are
// encrypted with the key, lost with another one, open is not.
func makeAirflow(home string) error {
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	path := filepath.Join(home, "airflow.db")
	cfg := fmt.Sprintf("[core]\nfernet_key = %s\n\n[database]\nsql_alchemy_conn = sqlite:///%s\n",
		fernetKey, path)
	if err := os.WriteFile(filepath.Join(home, "airflow.cfg"), []byte(cfg), 0o600); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(`CREATE TABLE connection (
		id INTEGER PRIMARY KEY, conn_id VARCHAR(250) UNIQUE NOT NULL,
		conn_type VARCHAR(500) NOT NULL, description VARCHAR(5000), host VARCHAR(500),
		schema VARCHAR(500), login TEXT, password TEXT, port INTEGER,
		is_encrypted BOOLEAN, is_extra_encrypted BOOLEAN, extra TEXT)`)
	if err != nil {
		return err
	}
	for _, row := range []struct {
		id, password, key string
	}{
		{"billing_db", "s3cret-billing", fernetKey}, {"warehouse", "s3cret-warehouse", fernetKey},
		{"lost", "s3cret-lost", otherKey}, {"open", "s3cret-open", ""},
		{"-dash", "s3cret-dash", fernetKey},
	} {
		password := row.password
		if row.key != "" {
			token, err := fernet.EncryptAndSign([]byte(password), fernet.MustDecodeKeys(row.key)[0])
			if err != nil {
				return err
			}
			password = string(token)
		}
		_, err := db.Exec(`INSERT INTO connection (conn_id, conn_type, host, schema, login,
				password, port, is_encrypted, is_extra_encrypted, extra)
			VALUES (?, 'postgres', 'db.example', 'ledger', 'billing', ?,
				5432, ?, 0, '{"sslmode": "require"}')`, row.id, password, row.key != "")
		if err != nil {
			return err
		}
	}
	return db.Close()
}

func grants(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: grants FILE PATTERN...")
	}
	// Where root runs the tests, its limit on locked memory may still be small.
	text := "memory_lock = \"try\"\n"
	if patterns := args[1:]; len(patterns) > 0 {
		for i, p := range patterns {
			patterns[i] = strconv.Quote(p)
		}
		text += fmt.Sprintf("\n[[grant]]\nrun_as_user = %s\nconnections = [%s]\n",
			ts.Getenv("UID"), strings.Join(patterns, ", "))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func sealed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sealed KEYFILE")
	}
	key, _, err := kms.GenerateLocalKey()
	ts.Check(err)
	path := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(path, key, 0o400))
	ring, err := kms.NewKeyring(map[string]kms.Settings{
		"main": kmstest.Settings("local", "key", path),
	})
	ts.Check(err)
	text := func(s string) *string { return &s }
	c, err := ring.Seal(context.Background(), "sealed", &conn.Connection{
		Type: text("http"), Host: text("h"), Password: conn.NewSecret("s3cret-sealed"),
		Extra: conn.NewSecret(`{"token": "s3cret-extra"}`),
	}, "main", nil, nil)
	ts.Check(err)
	extra, _ := c.Extra.Reveal()
	ts.Setenv("SEALED", extra)
	db, err := sql.Open("sqlite", filepath.Join(ts.Getenv("AIRFLOW"), "airflow.db"))
	ts.Check(err)
	defer db.Close()
	for _, id := range []string{"sealed", "moved"} {
		_, err := db.Exec(`INSERT INTO connection (conn_id, conn_type, host, extra)
			VALUES (?, 'http', 'h', ?)`, id, extra)
		ts.Check(err)
	}
}

func appendCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: append FILE OTHER")
	}
	text := ts.ReadFile(args[0]) + ts.ReadFile(args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func exitCodeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := args[0]; strconv.Itoa(got) != want && want != "any" {
		ts.Fatalf("exit code %d, want %s\n%s", got, want, ts.ReadFile("stderr"))
	}
}

func oneLineCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oneline stdout|stderr")
	}
	text := ts.ReadFile(args[0])
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("%s is not one line:\n%s", args[0], text)
	}
}
