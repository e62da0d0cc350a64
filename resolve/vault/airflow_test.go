//go:build integration

package vault_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/conn/conntest"
	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/resolvetest"
	"github.com/connfs/connfs/resolve/vault"
)

// variant is a set of arguments, and where they lead.
type variant struct {
	kwargs               map[string]any
	version              int
	mount, folder, start string // of the engine; of the connections; of every id
}

// The sort of ids that a URL must not change.
var idForms = []string{"c%d", "team/c%d", "c %d", "c%%2F%d", "c?version=%d", "c#%d", "ünï/%d",
	"c;%d", "c+%d&x", ".c.%d", "c\\%d", "😀%d"}

// Real Airflow and connfs, with the same arguments, at the same server, over values that
// a generator made up. The provider's class decides which text is the connection's; what
// a text means is held to Airflow elsewhere.
func TestBesideAirflowOnGeneratedValues(t *testing.T) {
	live := startLiveVault(t, "1h")
	v := live.Vault
	v.Mount("kv1", 1)
	v.Mount("deep/er", 2)
	variants := []variant{
		{map[string]any{"token": v.Token}, 2, "secret", "connections", ""},
		{map[string]any{"token": v.Token, "mount_point": "kv1/", "kv_engine_version": 1,
			"connections_path": []string{"nothing", "/a/b/"}}, 1, "kv1", "a/b", ""},
		{map[string]any{"token": v.Token, "mount_point": nil, "connections_path": ""}, 2, "secret",
			"", "secret/"},
		{map[string]any{"token": v.Token, "mount_point": "deep/er", "connections_path": nil,
			"global_secrets_path": "g/"}, 2, "deep/er", "g", ""},
		{map[string]any{"auth_type": "approle", "role_id": "the-role", "secret_id": "the-secret"},
			2, "secret", "connections", ""},
	}
	const seed, n = 11, 120
	var questions []airflow.Question
	var backends []backend.Backend
	for i, variant := range variants {
		variant.kwargs["url"] = v.URL
		b := resolvetest.Open(t, vault.Open, variant.kwargs)
		for j, value := range conntest.Values(seed+int64(i), n) {
			id := fmt.Sprintf(idForms[j%len(idForms)], 1000*i+j)
			if j%15 != 0 && utf8.ValidString(value) {
				putGenerated(v, variant, id, value)
			}
			questions = append(questions, airflow.Question{
				Class:  "airflow.providers.hashicorp.secrets.vault.VaultBackend",
				Kwargs: variant.kwargs, ID: variant.start + id,
			})
			backends = append(backends, b)
		}
	}
	counts := make(map[string]int)
	for i, a := range airflow.Provider(t, questions) {
		got, err := backends[i].Connection(t.Context(), a.ID)
		where := fmt.Sprintf("seed %d, variant %d, %q", seed, i/n, a.ID)
		switch {
		case a.Error != "" && a.Value == nil:
			counts["raises"]++
			kind := conn.Invalid
			if strings.HasPrefix(a.Error, "InternalServerError") {
				// Vault takes the number 1e999 and cannot read it back.
				kind = conn.Unreachable
			}
			if err == nil || conn.KindOf(err) != kind {
				t.Errorf("%s: %v, Airflow raises %.60s", where, err, a.Error)
			}
		case a.Value == nil:
			counts["absent"]++
			if err == nil || conn.KindOf(err) != conn.Absent {
				t.Errorf("%s: %v, want absent", where, err)
			}
		default:
			want, wrong := conn.Parse(string(a.Value))
			if wrong != nil || err != nil {
				counts["invalid"]++
				if (wrong == nil) != (err == nil) || err != nil &&
					conn.KindOf(err) != conn.Invalid {
					t.Errorf("%s: %v, want %v", where, err, wrong)
				}
				continue
			}
			counts["found"]++
			if diff := cmp.Diff(resolvetest.FieldsOf(want), resolvetest.FieldsOf(got)); diff != "" {
				t.Errorf("%s (-Airflow +connfs):\n%s", where, diff)
			}
		}
	}
	t.Logf("%d ids: %v", len(questions), counts)
	if counts["found"] < n || counts["absent"] == 0 || counts["invalid"] == 0 {
		t.Errorf("%v: the values do not show much", counts)
	}
}

// putGenerated stores a value: an object as the secret itself, or as its conn_uri like all
// other texts.
func putGenerated(v *servers.Vault, variant variant, id, value string) {
	secret := map[string]any{"conn_uri": value}
	var object map[string]json.RawMessage
	if len(id)%4 != 0 && json.Unmarshal([]byte(value), &object) == nil && len(object) > 0 {
		secret = make(map[string]any)
		for key, raw := range object {
			secret[key] = raw
		}
	}
	put(v, variant.version, variant.mount, strings.TrimPrefix(variant.folder+"/"+id, "/"), secret)
}
