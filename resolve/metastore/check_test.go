package metastore_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/metastore"
)

// Two keys that encrypt, and one that encrypted nothing.
const (
	firstKey  = "ds8OE6pp_iFsgoz7KGZ68L-byl73VniQX96D66qMVBs="
	secondKey = "YmVzaWRlYmVzaWRlYmVzaWRlYmVzaWRlYmVzaWRlYmU="
	thirdKey  = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3Q="
)

// token encrypts with a key.
func token(t *testing.T, key, text string) string {
	t.Helper()
	f, err := kms.NewFernet(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err = f.Encrypt([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCheckTriesTheFernetKeyOnTheRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "airflow.db")
	rows := []string{table}
	for i, one := range []struct {
		password, extra             string
		isEncrypted, extraEncrypted bool
	}{
		{token(t, firstKey, "hunter2"), "", true, false},
		{token(t, secondKey, "hunter2"), "", true, false},
		{token(t, firstKey, "hunter2"), token(t, secondKey, "hunter2"), true, true},
		{"", token(t, firstKey, "hunter2"), false, true},
		{"hunter2", "", false, false},                 // in clear
		{"", "", true, true},                          // nothing to encrypt
		{"", strings.Repeat("x", 3<<20), false, true}, // never served
	} {
		rows = append(rows, fmt.Sprintf("INSERT INTO connection (conn_id, conn_type, password, "+
			"extra, is_encrypted, is_extra_encrypted) "+
			"VALUES ('c%d', 'http', '%s', '%s', %v, %v)", i,
			one.password, one.extra, one.isEncrypted, one.extraEncrypted))
	}
	openWriter(t, path, rows...).Close()
	clear := filepath.Join(t.TempDir(), "clear.db")
	openWriter(t, clear, table, "INSERT INTO connection (conn_id, conn_type, password) "+
		"VALUES ('c', 'http', 'hunter2')").Close()
	empty := filepath.Join(t.TempDir(), "empty.db")
	openWriter(t, empty, table, insert("x", "h")).Close()

	for name, c := range map[string]struct{ path, key, want string }{
		"both keys": {path, firstKey + "," + secondKey, "fernet_key opens all 4 encrypted rows"},
		"one of them": {
			path, firstKey, "fernet_key: metastore: key rejected: 2 of 4 encrypted rows open " +
				"with none of the keys (is it this database's key? After a rotation, list the " +
				"old one too)",
		},
		"another one": {
			path, thirdKey, "fernet_key: metastore: key rejected: 4 of 4 encrypted rows open " +
				"with none of the keys (is it this database's key? After a rotation, list the " +
				"old one too)",
		},
		"no key": {
			path, "", "fernet_key: metastore: key rejected: 4 rows are encrypted, and no key is " +
				"configured (set [core] fernet_key, or fernet_key in config.toml)",
		},
		"no key, all in clear": {
			clear, "", "fernet_key: no key is configured, and 1 row is in clear: whoever can " +
				"read the database can read the passwords",
		},
		"no key, and nothing to encrypt": {
			empty, "", "fernet_key: there is none, and no row that needs one",
		},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := kms.NewFernet(c.key)
			if err != nil {
				t.Fatal(err)
			}
			m, err := metastore.Open(
				metastore.Settings{URL: "sqlite:///" + c.path, FernetKey: c.key}, keys)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			checks := m.Check(t.Context())
			if len(checks) != 2 || checks[0].Err != nil {
				t.Fatalf("%+v", checks)
			}
			if diff := cmp.Diff(c.want, said(checks[1])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// said returns the words of a check.
func said(c conn.Check) string {
	switch {
	case c.Err != nil:
		return c.Call + ": " + c.Err.Error()
	case c.Note != "":
		return c.Call + ": " + c.Note
	}
	return c.Call
}
