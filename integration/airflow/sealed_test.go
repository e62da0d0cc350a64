//go:build integration

package airflow_test

import (
	"context"
	"database/sql"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/metastore"
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
				{
					ID: "with_all", ConnType: text("ftp"), Host: text("h"), Login: text("u"),
					Password: text(password), Extra: text(`{"k": [1, "` + password + `"]}`),
				},
				{
					ID: "without_extra", ConnType: text("http"), Host: text("h"),
					Password: text(password),
				},
				{ID: "bare", ConnType: text("http"), Host: text("h")},
				{
					ID: "with_form", ConnType: text("smtp"), Host: text("h"),
					Password: text(password), Extra: text(`{"timeout": 5}`),
				},
				{ID: "masked", ConnType: text("http"), Host: text("h"), Password: text(password)},
				{ID: "named_like_a_kms", ConnType: text("http"), Password: text("unlucky")},
				{ID: "plain", ConnType: text("http"), Host: text("h"), Password: text("stays")},
			})
			for _, a := range written {
				if a.Error != "" {
					t.Fatalf("%s: %s", a.ID, a.Error)
				}
			}
			ids := []string{"with_all", "without_extra", "bare", "with_form"}

			key := filepath.Join(t.TempDir(), "key")
			material, _, err := kms.GenerateLocalKey()
			if err == nil {
				err = os.WriteFile(key, material, 0o400)
			}
			if err != nil {
				t.Fatal(err)
			}
			local := kmstest.Settings("local", "key", key)
			keyring, err := kms.NewKeyring(map[string]kms.Settings{"main": local, "unlucky": local})
			if err != nil {
				t.Fatal(err)
			}
			keys, err := kms.NewFernet(fernetKey)
			if err != nil {
				t.Fatal(err)
			}
			path, err := all.Open(
				&all.Settings{
					Metastore: &metastore.Settings{URL: "sqlite:///" + home + "/airflow.db"},
				},
				keys, keyring,
			)
			if err != nil {
				t.Fatal(err)
			}
			m, _ := resolve.Find[*metastore.Store](path)
			defer m.Close()

			before := make(map[string]*conn.Connection)
			for _, id := range ids {
				before[id] = seal(t, path, keyring, keys, id, "main")
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
			seal(t, path, keyring, keys, "masked", "unlucky")
			savedByWeb(t, version, home, keyring, before)
			for _, id := range ids {
				want := before[id]
				want.Description = text("by-api")
				if version == airflow.V2 {
					want.Host = text("by-form")
				}
				got, _, err := path.Connection(t.Context(), id)
				if err == nil && version == airflow.V2 {
					got.Login, got.Schema = withoutBlank(got.Login), withoutBlank(got.Schema)
				}
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

// savedByWeb has Airflow's web server show and save the rows, and opens what it stored.
func savedByWeb(
	t *testing.T, version, home string, keyring *kms.Keyring, before map[string]*conn.Connection,
) {
	t.Helper()
	ids := append(slices.Sorted(maps.Keys(before)), "masked")
	for _, a := range airflow.SealedWeb(t, version, home, ids) {
		if a.Error != "" {
			t.Errorf("%s: %s", a.ID, a.Error)
			continue
		}
		saves := []string{"api"}
		if version == airflow.V2 {
			saves = append(saves, "form")
		}
		for _, by := range saves {
			for _, field := range []string{"password", "shown_password"} {
				if a.Fields[by+"_"+field] != nil {
					t.Errorf("%s, %s: Airflow shows or stored a password", a.ID, by)
				}
			}
			for _, field := range []string{"shown", "extra"} {
				if extra, _ := a.Fields[by+"_"+field].(string); !conn.IsSealed(extra) {
					t.Errorf("%s, %s: %s is not the sealed form: %s", a.ID, by, field, extra)
				}
			}
			stored, _ := a.Fields[by+"_extra"].(string)
			wantError := ""
			switch {
			case a.ID == "masked":
				wantError = `"kms_conn_id" holds ***`
			case a.ID == "with_form" && by == "form":
				wantError = `the keys "disable_ssl", "disable_tls", "retry_limit", "timeout" are not of a sealed form`
			}
			opened, err := keyring.Unseal(t.Context(), a.ID,
				&conn.Connection{Extra: conn.NewSecret(stored)}, nil)
			if wantError != "" {
				if err == nil || !strings.Contains(err.Error(), wantError) {
					t.Errorf("%s, %s: %v, want %s", a.ID, by, err, wantError)
				}
				continue
			}
			if err != nil || opened.Password != before[a.ID].Password ||
				opened.Extra != before[a.ID].Extra {
				t.Errorf("%s, %s: does not open to the same: %v", a.ID, by, err)
			}
		}
	}
}

// withoutBlank undoes what a form does: it stores an empty text where there was null.
func withoutBlank(column *string) *string {
	if column != nil && *column == "" {
		return nil
	}
	return column
}

// seal seals a row as `connfs seal` does, and returns what it was.
func seal(
	t *testing.T, path *resolve.Path, keyring *kms.Keyring, keys *kms.Fernet, id, by string,
) *conn.Connection {
	t.Helper()
	ctx := context.Background()
	m, _ := resolve.Find[*metastore.Store](path)
	row, err := m.Row(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := keyring.Seal(ctx, id, row.Connection, by, nil, nil)
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
