package kms_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms/kmstest"
)

// vector is a sealed form that testdata/sealed.py made.
type vector struct {
	ConnID string         `json:"conn_id"`
	Key    string         `json:"key"`
	Fields map[string]any `json:"fields"`
	Form   string         `json:"form"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/sealed.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 12 {
		t.Fatalf("%d vectors: %v", len(all), err)
	}
	return all
}

func TestVectorsOpen(t *testing.T) {
	for _, v := range vectors(t) {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(v.Key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		k := kmstest.Keyring(t, kmstest.Settings("local", "key", path))
		got, err := k.Unseal(
			t.Context(), v.ConnID, &conn.Connection{Extra: conn.NewSecret(v.Form)}, nil,
		)
		if err != nil {
			t.Errorf("%s: %v", v.Form, err)
			continue
		}
		want := make(map[string]any)
		for name, value := range kmstest.Fields(&conn.Connection{}) {
			want[name] = value
		}
		for name, value := range v.Fields {
			switch value := value.(type) {
			case string:
				if want[name] = &value; name == "password" || name == "extra" {
					want[name] = value
				}
			case float64:
				port := int64(value)
				want[name] = &port
			}
		}
		if diff := cmp.Diff(want, kmstest.Fields(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v.Form, diff)
		}
	}
}
