package vault

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// A standby node of Vault may send its clients to the active one, which has another address. Who
// can answer for Vault could send them anywhere.
func TestRedirects(t *testing.T) {
	var asked []string
	record := func(node string, r *http.Request) {
		asked = append(asked, node+" "+r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Vault-Token"))
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = w.Write([]byte(`{"auth": {"client_token": "issued"}}`))
			return
		}
		_, _ = w.Write([]byte(`{"data": {"data": {"host": "h"}}}`))
	}
	active := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record("active", r)
		answer(w, r)
	}))
	defer active.Close()
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record("standby", r)
		w.Header().Set("Location", active.URL+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer standby.Close()
	same := httptest.NewServer(nil)
	same.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record("same", r)
		if !strings.HasPrefix(r.URL.Path, "/there") {
			w.Header().Set("Location", same.URL+"/there"+r.URL.Path)
			w.WriteHeader(http.StatusTemporaryRedirect)
		} else {
			answer(w, r)
		}
	})
	defer same.Close()
	const login, read = "PUT /v1/auth/approle/login ", "GET /v1/secret/data/connections/x issued"
	const there = "same PUT /there/v1/auth/approle/login "
	const read2 = "same GET /there/v1/secret/data/connections/x issued"
	for _, c := range []struct {
		name, url, follow string
		kind              conn.Kind
		want              []string
	}{
		{"followed on the same host, with the body and the token", same.URL, "true", 0,
			[]string{"same " + login, there, "same " + read, read2}},
		{"not followed to another", standby.URL, "true", conn.Unreachable,
			[]string{"standby " + login}},
		{"not followed at all", same.URL, "false", conn.Unreachable, []string{"same " + login}},
	} {
		asked = nil
		b, err := backend.Open(&backend.Secrets{Kwargs: `{"auth_type": "approle", "role_id": "r",
			"url": "` + c.url + `", "allow_redirects": ` + c.follow + `}`}, Open)
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

func TestWhereATokenGoes(t *testing.T) {
	for _, c := range []struct {
		from, to string
		goes     bool
	}{
		{"https://vault", "https://vault/v1/x", true},
		{"https://vault", "http://vault/v1/x", false},
		{"http://vault:8200", "https://vault:8201/v1/x", true},
		{"http://vault", "http://vault:8201/v1/x", false},
		{"https://vault", "https://vault:8201/v1/x", false},
		{"https://vault", "https://vault.evil/v1/x", false},
		{"http://vault", "https://evil/v1/x", false},
	} {
		next, err := http.NewRequest(http.MethodGet, c.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		from, err := url.Parse(c.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := redirects(true)(next, []*http.Request{{URL: from}}) == nil; got != c.goes {
			t.Errorf("from %s to %s: %v", c.from, c.to, got)
		}
	}
}
