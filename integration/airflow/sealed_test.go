//go:build integration

package airflow_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
)

// TestSealedRowsAreHarmlessToAirflow seals rows that Airflow wrote, has that Airflow list,
// show, export, edit and rotate them, and opens them again.
func TestSealedRowsAreHarmlessToAirflow(t *testing.T) {
	for _, version := range []string{airflow.V2, airflow.V3} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			text := func(s string) *string { return &s }
			const password = "s3cret-of-the-row"
			written := airflow.Write(t, version, home, fernetKey, []airflow.Connection{
				{ID: "with_all", ConnType: text("postgres"), Host: text("h"), Login: text("u"), Password: text(password), Extra: text(`{"k": [1, "` + password + `"]}`)},
				{ID: "without_extra", ConnType: text("http"), Host: text("h"), Password: text(password)},
				{ID: "bare", ConnType: text("http"), Host: text("h")},
				{ID: "plain", ConnType: text("http"), Host: text("h"), Password: text("stays")},
			})
			for _, a := range written {
				if a.Error != "" {
					t.Fatalf("%s: %s", a.ID, a.Error)
				}
			}
			ids := []string{"with_all", "without_extra", "bare"}

			key := filepath.Join(t.TempDir(), "key")
			material, err := kms.GenerateLocalKey()
			if err == nil {
				err = os.WriteFile(key, material, 0o400)
			}
			if err != nil {
				t.Fatal(err)
			}
			keyring, err := kms.NewKeyring(map[string]kms.Settings{"main": {Type: "local", Key: key}})
			if err != nil {
				t.Fatal(err)
			}
			keys, err := kms.NewFernet(fernetKey)
			if err != nil {
				t.Fatal(err)
			}
			path, err := resolve.Open(&resolve.Settings{Metastore: &resolve.MetastoreSettings{URL: "sqlite:///" + home + "/airflow.db"}}, keys, keyring)
			if err != nil {
				t.Fatal(err)
			}
			defer path.Close()

			before := make(map[string]*conn.Connection)
			for _, id := range ids {
				before[id] = seal(t, path, keyring, keys, id)
			}
			for _, a := range airflow.Sealed(t, version, home, ids) {
				if a.Error != "" {
					t.Errorf("%s: %s", a.ID, a.Error)
					continue
				}
				if a.Fields["password"] != nil || a.Fields["exported_password"] != nil {
					t.Errorf("%s: Airflow shows a password", a.ID)
				}
				if a.Fields["host"] != "h" || a.Fields["description"] != "edited" {
					t.Errorf("%s: %v", a.ID, a.Fields)
				}
				for _, field := range []string{"extra", "exported_extra"} {
					extra, _ := a.Fields[field].(string)
					if !conn.IsSealed(extra) || strings.Contains(extra, password) {
						t.Errorf("%s: the %s is not the sealed form: %s", a.ID, field, extra)
					}
				}
			}
			flags, err := encrypted(home, "with_all")
			if err != nil || !flags {
				t.Errorf("Airflow did not store the extra anew: %v", err)
			}
			m := path.Metastore()
			for _, id := range ids {
				want := before[id]
				want.Description = text("edited")
				got, _, err := path.Connection(t.Context(), id)
				if err != nil || !got.Equal(want) {
					t.Errorf("%s does not open to the same: %v", id, err)
					continue
				}
				// And back to what Airflow reads.
				row, err := m.Row(t.Context(), id)
				if err == nil {
					err = m.Rewrite(t.Context(), row, got, keys)
				}
				if err != nil {
					t.Errorf("unsealing %s: %v", id, err)
				}
			}
			again := airflow.Write(t, version, home, fernetKey, nil)
			if len(again) != 0 {
				t.Errorf("%d answers to no question", len(again))
			}
		})
	}
}

// seal seals a row as `connfs seal` does, and returns what it was.
func seal(t *testing.T, path *resolve.Path, keyring *kms.Keyring, keys *kms.Fernet, id string) *conn.Connection {
	t.Helper()
	ctx := context.Background()
	m := path.Metastore()
	row, err := m.Row(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := keyring.Seal(ctx, id, row.Connection, "main", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Rewrite(ctx, row, sealed, keys); err != nil {
		t.Fatal(err)
	}
	return row.Connection
}

func encrypted(home, id string) (flag bool, err error) {
	db, err := sql.Open("sqlite", filepath.Join(home, "airflow.db"))
	if err != nil {
		return false, err
	}
	defer db.Close()
	err = db.QueryRow("SELECT is_extra_encrypted FROM connection WHERE conn_id = ?", id).Scan(&flag)
	return flag, err
}
