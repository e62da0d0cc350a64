package kms_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms/kmstest"
)

// The next child goes on with the token of this one, also where the one between them never
// needed it, and gets another one where Google no longer takes it.
func TestGoogleTokenOutlivesTheProcess(t *testing.T) {
	var logins atomic.Int32
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "token-%d", "expires_in": 3600}`, logins.Add(1))
	}))
	defer tokens.Close()
	file, err := json.Marshal(map[string]string{
		"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
		"token_uri": tokens.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "user.json")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := servers.StartGoogleKMS(t)
	s.RequireToken("token-1")
	settings := kmstest.Settings("gcp", "key", s.CreateKey("key"), "endpoint", s.Address,
		"credentials_file", path)

	first := kmstest.Keyring(t, settings)
	sealed, err := first.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	identities := first.Identities()
	reads := func(generation int) {
		t.Helper()
		k := kmstest.Keyring(t, settings)
		k.Adopt(map[string][]byte{"main": []byte("nonsense"), "nobody": []byte("x")})
		k.Adopt(identities)
		if generation != 2 {
			back, err := k.Unseal(t.Context(), "a", sealed, nil)
			if err != nil || !cmp.Equal(kmstest.Fields(back), kmstest.Fields(kmstest.Sample())) {
				t.Errorf("generation %d: %v", generation, err)
			}
		}
		if identities = k.Identities(); identities["main"] == nil {
			t.Fatal("nothing is handed over")
		}
	}
	for generation := range 5 {
		reads(generation)
	}
	if n := logins.Load(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	s.RequireToken("token-2")
	reads(5)
	reads(6)
	if n := logins.Load(); n != 2 {
		t.Errorf("%d logins after the token was revoked, want 2", n)
	}
	s.RequireToken("nobody's")
	_, err = kmstest.Keyring(t, settings).Unseal(t.Context(), "a", sealed, nil)
	if conn.KindOf(err) != conn.Denied {
		t.Errorf("with a token that Google does not take: %v", err)
	}
}
