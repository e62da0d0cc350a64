package kms_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
)

// localSettings describes a local KMS with a new key.
func localSettings(t testing.TB) kms.Settings {
	t.Helper()
	key, err := kms.GenerateLocalKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, key, 0o400); err != nil {
		t.Fatal(err)
	}
	return kms.Settings{Type: "local", Key: path}
}

func keyring(t testing.TB, named map[string]kms.Settings) *kms.Keyring {
	t.Helper()
	k, err := kms.NewKeyring(named)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// none is a Finder where no connection is.
func none(context.Context, string) (*conn.Connection, error) {
	return nil, conn.Errorf(conn.Absent, "", "none is here")
}

func text(s string) *string { return &s }

func sample() *conn.Connection {
	port := int64(5432)
	return &conn.Connection{
		Type: text("postgres"), Description: text("billing"), Host: text("db.example"), Login: text("user"),
		Password: conn.NewSecret("p w/@:%é\u2028"), Schema: text(""), Port: &port, Extra: conn.NewSecret("not JSON, <kept> as\x00 it is\n"),
	}
}

// fields returns a connection in a form that can be compared and shown. The values are
// the tests' own.
func fields(c *conn.Connection) map[string]any {
	m := map[string]any{
		"conn_type": c.Type, "description": c.Description, "host": c.Host, "login": c.Login, "schema": c.Schema, "port": c.Port,
	}
	m["password"], m["extra"] = "null", "null"
	if text, ok := c.Password.Reveal(); ok {
		m["password"] = "text " + text
	}
	if text, ok := c.Extra.Reveal(); ok {
		m["extra"] = "text " + text
	}
	return m
}

func TestWhatIsSealedUnsealsToTheSame(t *testing.T) {
	for _, mode := range []string{"", "envelope", "direct"} {
		settings := localSettings(t)
		settings.Mode = mode
		k := keyring(t, map[string]kms.Settings{"main": settings})
		for name, plain := range map[string]*conn.Connection{"full": sample(), "empty": {}} {
			for _, names := range [][]string{nil, {"password"}, {"login", "host", "login"}, kms.AllFields()} {
				sealed, err := k.Seal(t.Context(), "a/b", plain, "main", names, nil)
				if err != nil {
					t.Fatalf("%s %q %q: %v", mode, name, names, err)
				}
				if !sealed.Sealed() || plain.Sealed() {
					t.Errorf("%s %q %q: sealed %v, the plain one %v", mode, name, names, sealed.Sealed(), plain.Sealed())
				}
				back, err := k.Unseal(t.Context(), "a/b", sealed, nil)
				if err != nil {
					t.Fatalf("%s %q %q: %v", mode, name, names, err)
				}
				if diff := cmp.Diff(fields(plain), fields(back)); diff != "" {
					t.Errorf("%s %q %q (-want +got):\n%s", mode, name, names, diff)
				}
			}
		}
	}
}
