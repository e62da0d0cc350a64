//go:build integration

package airflow_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/integration/airflow"
)

const fernetKey = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm8="

func TestReadAnswersAsAirflowDoes(t *testing.T) {
	list := `{"k": [1]}`
	values := []airflow.Value{
		{ID: "uri", Value: []byte("postgresql://ann:s%40c@Db.example:5432/dwh?a=1")},
		{
			ID:    "json",
			Value: []byte(`{"conn_type": "http", "host": "h", "port": "80", "extra": {"k": [1]}}`),
		},
		{ID: "bad", Value: []byte("http://h:port/")},
		{ID: "nul", Value: []byte("http://h\x00/")},
		{ID: "bytes", Value: []byte("http://u:\xff@h/")},
	}
	for i := range 500 {
		values = append(values, airflow.Value{
			ID: fmt.Sprintf("c%d", i), Value: fmt.Appendf(nil, "http://h%d/", i),
		})
	}
	for _, tc := range []struct {
		version, extra string
	}{
		{airflow.V2, `{"a": "1"}`},
		{airflow.V3, `{"a": 1}`},
		{airflow.V3SDK, `{"a": "1"}`},
	} {
		t.Run(tc.version, func(t *testing.T) {
			got := airflow.Read(t, tc.version, values)
			want := []airflow.Answer{
				{
					ID: "uri",
					Fields: map[string]any{
						"conn_type": "postgres", "description": nil, "host": "db.example",
						"login": "ann", "password": "s@c", "schema": "dwh",
						"port": json.Number("5432"), "extra": tc.extra,
					},
					Dejson: &tc.extra,
				},
				{
					ID: "json",
					Fields: map[string]any{
						"conn_type": "http", "description": nil, "host": "h", "login": nil,
						"password": nil, "schema": nil, "port": json.Number("80"), "extra": list,
					},
					Dejson: &list,
				},
			}
			for i := range want {
				want[i].URI = got[i].URI
			}
			if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
				t.Errorf("answers differ (-want +got):\n%s", diff)
			}
			for _, a := range got[2:5] {
				if a.Error == "" {
					t.Errorf("%s: want an error, got %v", a.ID, a.Fields)
				}
			}
			if !strings.HasPrefix(got[2].Cause, "ValueError: Port could not be cast") {
				t.Errorf("cause %q of an error, want Python's words for the port", got[2].Cause)
			}
			for i, a := range got[5:] {
				if a.Error != "" || a.Fields["host"] != fmt.Sprintf("h%d", i) {
					t.Fatalf("answer %d: %+v", i, a)
				}
			}
		})
	}
}

func TestWriteStoresEncryptedRows(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, version := range []string{airflow.V2, airflow.V3} {
		t.Run(version, func(t *testing.T) {
			home := t.TempDir()
			got := airflow.Write(t, version, home, fernetKey, []airflow.Connection{
				{
					ID: "db", ConnType: text("postgres"), Password: text("hunter2-in-clear"),
					Extra: text(`{"k": 1}`),
				},
				{ID: "odd id/ü", ConnType: text("http"), Host: text("h")},
				{ID: "db", ConnType: text("http")},
			})
			if got[0].Error != "" || got[0].Fields["password"] != "hunter2-in-clear" ||
				got[0].Fields["extra"] != `{"k": 1}` {
				t.Errorf("an ordinary connection: %+v", got[0])
			}
			if got[1].Error != "" || got[1].Fields["host"] != "h" {
				t.Errorf("an id that the model refuses: %+v", got[1])
			}
			if got[2].Error == "" {
				t.Error("a second row of the same id was stored")
			}
			b, err := os.ReadFile(filepath.Join(home, "airflow.db"))
			if err != nil {
				t.Fatal(err)
			}
			if wal, err := os.ReadFile(filepath.Join(home, "airflow.db-wal")); err == nil {
				b = append(b, wal...)
			}
			if strings.Contains(string(b), "hunter2-in-clear") ||
				!strings.Contains(string(b), "gAAAAA") {
				t.Error("the password does not stand in the metastore as a Fernet token")
			}
		})
	}
}
