package vault

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// A standby node of Vault sends its clients to the active one, which has another address.
func TestRedirects(t *testing.T) {
	var asked []string
	record := func(node string, r *http.Request) {
		asked = append(asked, node+" "+r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Vault-Token"))
	}
	active := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record("active", r)
		if r.Method == http.MethodPut {
			_, _ = w.Write([]byte(`{"auth": {"client_token": "issued"}}`))
			return
		}
		_, _ = w.Write([]byte(`{"data": {"data": {"host": "h"}}}`))
	}))
	defer active.Close()
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record("standby", r)
		w.Header().Set("Location", active.URL+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer standby.Close()
	const login, read = "PUT /v1/auth/approle/login ", "GET /v1/secret/data/connections/x issued"
	for _, c := range []struct {
		name, follow string
		kind         conn.Kind
		want         []string
	}{
		{"followed, with the body and the token", "true", 0,
			[]string{"standby " + login, "active " + login, "standby " + read, "active " + read}},
		{"not followed", "false", conn.Unreachable, []string{"standby " + login}},
	} {
		asked = nil
		b, err := backend.Open(&backend.Secrets{Kwargs: `{"auth_type": "approle", "role_id": "r",
			"url": "` + standby.URL + `", "allow_redirects": ` + c.follow + `}`}, Open)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Connection(t.Context(), "x")
		if (err == nil) != (c.kind == 0) || err != nil && conn.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, asked); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestTokensStayWithinTLS(t *testing.T) {
	plain, err := http.NewRequest(http.MethodGet, "http://vault/v1/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	before := []*http.Request{{URL: &url.URL{Scheme: "https", Host: "vault"}}}
	if redirects(true)(plain, before) == nil {
		t.Error("a redirect from https to http is followed")
	}
}
