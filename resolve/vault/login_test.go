package vault

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
)

// appRole are the arguments of a login that the fake takes.
func appRole() map[string]any {
	return map[string]any{"auth_type": "approle", "role_id": "r", "secret_id": "s"}
}

const (
	secretCall = "GET /v1/secret/data/connections/x"
	loginCall  = "PUT /v1/auth/approle/login"
	lookUpCall = "GET /v1/auth/token/lookup-self"
	renewCall  = "PUT /v1/auth/token/renew-self"
)

// readAll lets many readers read at once.
func readAll(t *testing.T, v *Store, readers int) {
	t.Helper()
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			if _, err := v.Connection(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func wantCounts(t *testing.T, what string, f *fakeVault, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, f.counts()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestReadersShareALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.slow = 10 * time.Millisecond
		v := f.open(t, appRole())
		readAll(t, v, 100)
		wantCounts(t, "cold", f, map[string]int{loginCall: 1, secretCall: 100})
		readAll(t, v, 100)
		wantCounts(t, "warm", f, map[string]int{secretCall: 100})
		f.revoke()
		readAll(t, v, 100)
		wantCounts(t, "revoked", f, map[string]int{loginCall: 1, lookUpCall: 1, secretCall: 200})
	})
}

func TestTokenIsRenewedInTimeAndOnUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.lease = 60
		v := f.open(t, appRole())
		readAll(t, v, 1)
		f.counts()
		time.Sleep(39 * time.Second)
		readAll(t, v, 10)
		wantCounts(t, "before two thirds of the lease", f, map[string]int{secretCall: 10})
		time.Sleep(2 * time.Second)
		readAll(t, v, 10)
		wantCounts(t, "after two thirds", f, map[string]int{renewCall: 1, secretCall: 10})
		time.Sleep(41 * time.Second)
		readAll(t, v, 10)
		wantCounts(t, "after two thirds of the new lease", f,
			map[string]int{renewCall: 1, secretCall: 10})
		time.Sleep(61 * time.Second)
		wantCounts(t, "idle", f, map[string]int{})
		readAll(t, v, 10)
		wantCounts(t, "expired", f, map[string]int{loginCall: 1, secretCall: 10})
	})
}

// A token cannot be renewed beyond its longest life, and an attempt that fails is not
// repeated by every reader.
func TestRenewalThatDoesNotHelpEnds(t *testing.T) {
	for name, status := range map[string]int{"refused": 403, "no longer": 200, "unavailable": 503} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVault()
			f.lease = 60
			v := f.open(t, appRole())
			readAll(t, v, 1)
			f.answer = func(r *http.Request) (int, string) {
				if r.URL.Path != "/v1/auth/token/renew-self" {
					return 0, ""
				}
				return status, `{"auth":{"client_token":"issued-1","lease_duration":15,"renewable":true}}`
			}
			time.Sleep(45 * time.Second)
			f.counts()
			for range 10 {
				readAll(t, v, 1)
				time.Sleep(100 * time.Millisecond)
			}
			calls := f.counts()
			if calls[secretCall] != 10 || calls[renewCall] < 1 || calls[renewCall] > 3 ||
				calls[loginCall] != 0 {
				t.Errorf("%s: %v", name, calls)
			}
			time.Sleep(20 * time.Second)
			readAll(t, v, 1)
			if calls := f.counts(); calls[loginCall] != 1 {
				t.Errorf("%s: expired: %v", name, calls)
			}
		})
	}
}

// What the policies deny is no reason to log in for each read.
func TestDeniedReadsAreNoLoginStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.answer = func(r *http.Request) (int, string) {
			if strings.HasSuffix(r.URL.Path, "/denied") {
				return 403, `{"errors":["permission denied"]}`
			}
			return 0, ""
		}
		v := f.open(t, appRole())
		for range 100 {
			if _, err := v.Connection(t.Context(), "denied"); conn.KindOf(err) != conn.Denied {
				t.Fatalf("%v", err)
			}
		}
		if calls := f.counts(); calls[loginCall] != 1 {
			t.Errorf("a new token: %v", calls)
		}
		// The role may have other policies by now.
		time.Sleep(2 * settled)
		for range 100 {
			if _, err := v.Connection(t.Context(), "denied"); conn.KindOf(err) != conn.Denied {
				t.Fatalf("%v", err)
			}
		}
		if calls := f.counts(); calls[loginCall] != 1 {
			t.Errorf("an old token: %v", calls)
		}
		// A token without the right to look itself up.
		f.answer = func(r *http.Request) (int, string) {
			if strings.HasSuffix(r.URL.Path, "/denied") ||
				strings.HasSuffix(r.URL.Path, "/lookup-self") {
				return 403, `{"errors":["permission denied"]}`
			}
			return 0, ""
		}
		for range 100 {
			_, _ = v.Connection(t.Context(), "denied")
			time.Sleep(10 * time.Millisecond)
		}
		if calls := f.counts(); calls[loginCall] > 2 {
			t.Errorf("a token that may not be looked up: %v", calls)
		}
	})
}

func TestRefusedLoginsAreSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		refuse := true
		f.answer = func(r *http.Request) (int, string) {
			if refuse && strings.HasSuffix(r.URL.Path, "/login") {
				return 400, `{"errors":["invalid secret id hunter2"]}`
			}
			return 0, ""
		}
		v := f.open(t, appRole())
		for range 600 {
			_, err := v.Connection(t.Context(), "x")
			if conn.KindOf(err) != conn.Denied || strings.Contains(err.Error(), "hunter2") {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if calls := f.counts(); calls[loginCall] > 7 {
			t.Errorf("within a minute: %v", calls)
		}
		// The next child goes on waiting.
		next := f.open(t, appRole())
		next.Adopt(v.Identity())
		if _, err := next.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Denied {
			t.Error(err)
		}
		wantCounts(t, "adopted", f, map[string]int{})
		refuse = false
		time.Sleep(refusedPause.Longest)
		readAll(t, v, 1)
		readAll(t, next, 1)
	})
}

func TestGenerationsShareALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.lease = 30
		var identity []byte
		for range 120 {
			v := f.open(t, appRole())
			v.Adopt(identity)
			if err := v.Warm(t.Context()); err != nil {
				t.Fatal(err)
			}
			readAll(t, v, 5)
			identity = v.Identity()
			time.Sleep(time.Second)
		}
		calls := f.counts()
		if calls[loginCall] != 1 || calls[renewCall] < 3 || calls[renewCall] > 7 {
			t.Errorf("two minutes of one-second generations: %v", calls)
		}
		if strings.Contains(string(identity), `"h"`) {
			t.Error("a successor is told of a connection")
		}
	})
}

func TestAdoptsOnlyWhatIsNewerAndItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.lease = 600
		old := f.open(t, appRole())
		readAll(t, old, 1)
		identity := old.Identity()
		f.counts()

		other := appRole()
		other["role_id"] = "another"
		v := f.open(t, other)
		v.Adopt(identity)
		readAll(t, v, 1)
		wantCounts(t, "the token of other settings", f, map[string]int{loginCall: 1, secretCall: 1})

		for _, text := range []string{"", "null", "{}", "nonsense",
			string(identity[:len(identity)/2])} {
			v.Adopt([]byte(text))
		}
		time.Sleep(time.Second)
		v = f.open(t, appRole())
		readAll(t, v, 1)
		v.Adopt(identity)
		f.counts()
		f.tokens["issued-1"] = false
		readAll(t, v, 1)
		wantCounts(t, "an older token", f, map[string]int{secretCall: 1})

		f.revoke()
		readAll(t, v, 1)
		f.counts()
		stale := v.Identity()
		f.revoke()
		readAll(t, v, 1)
		f.counts()
		v.Adopt(stale)
		readAll(t, v, 1)
		wantCounts(t, "a token that Vault has refused", f, map[string]int{secretCall: 1})

		late := f.open(t, appRole())
		time.Sleep(601 * time.Second)
		late.Adopt(v.Identity())
		readAll(t, late, 1)
		wantCounts(t, "an expired token", f, map[string]int{loginCall: 1, secretCall: 1})
	})
}

func TestLoginEndsWithItsLastReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault()
		f.slow = time.Hour
		v := f.open(t, appRole())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := v.Connection(ctx, "x"); conn.KindOf(err) != conn.Timeout {
			t.Error(err)
		}
		// The bubble ends only if no goroutine is left, and its clock says when.
		start := time.Now()
		synctest.Wait()
		if time.Since(start) > 0 {
			t.Error("the login went on")
		}
		f.slow = 0
		readAll(t, v, 1)
	})
}

func TestGivenTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault("given")
		f.lease = 60
		v := f.open(t, map[string]any{"token": "given"})
		for range 3 {
			if err := v.Warm(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.counts()
		time.Sleep(45 * time.Second)
		readAll(t, v, 5)
		wantCounts(t, "renewed", f, map[string]int{renewCall: 1, secretCall: 5})
		f.revoke()
		if _, err := v.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Denied {
			t.Error(err)
		}
		wantCounts(t, "revoked", f, map[string]int{secretCall: 1})
	})
}

func TestTokenFileIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := newFakeVault("first")
	v := f.open(t, map[string]any{"token": "not this one", "token_path": path})
	if _, err := v.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Denied {
		t.Errorf("no file: %v", err)
	}
	v = f.open(t, map[string]any{"token_path": path})
	write(" first\n")
	readAll(t, v, 1)
	f.revoke()
	f.tokens["second"] = true
	if _, err := v.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Denied {
		t.Errorf("revoked: %v", err)
	}
	write("second\n")
	f.counts()
	readAll(t, v, 1)
	wantCounts(t, "another token in the file", f, map[string]int{secretCall: 2})
}

// newKeyFile returns a Google key file and its key.
func newKeyFile(t *testing.T) (map[string]any, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return map[string]any{"type": "service_account", "client_email": "a@p.example",
		"private_key_id": "k1", "private_key": string(text)}, key
}

func TestLogins(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "")
	jwt := filepath.Join(t.TempDir(), "jwt")
	if err := os.WriteFile(jwt, []byte("signed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kwargs, path, body string }{
		{`"auth_type": "approle", "role_id": "r", "secret_id": "s"`, "approle/login", `{"role_id":"r","secret_id":"s"}`},
		{`"auth_type": "approle", "role_id": "r"`, "approle/login", `{"role_id":"r","secret_id":null}`},
		{`"auth_type": "approle", "role_id": "r", "auth_mount_point": "/a/b/"`, "a/b/login", `{"role_id":"r","secret_id":null}`},
		{`"auth_type": "userpass", "username": "u v", "password": "p"`, "userpass/login/u v", `{"password":"p"}`},
		{`"auth_type": "ldap", "username": "u", "password": "p", "auth_mount_point": "corp"`, "corp/login/u", `{"password":"p"}`},
		{`"auth_type": "github", "token": "g"`, "github/login", `{"token":"g"}`},
		{`"auth_type": "github", "token_path": "JWT"`, "github/login", `{"token":"signed"}`},
		{`"auth_type": "kubernetes", "kubernetes_role": "r", "kubernetes_jwt_path": "JWT"`, "kubernetes/login", `{"jwt":"signed","role":"r"}`},
		{`"auth_type": "jwt", "jwt_role": "r", "jwt_token": " given "`, "jwt/login", `{"jwt":"given","role":"r"}`},
		{`"auth_type": "jwt", "jwt_role": "r", "jwt_token_path": "JWT", "auth_mount_point": "oidc"`, "oidc/login", `{"jwt":"signed","role":"r"}`},
	} {
		var kwargs map[string]any
		if err := json.Unmarshal([]byte("{"+strings.ReplaceAll(c.kwargs, "JWT", jwt)+"}"),
			&kwargs); err != nil {
			t.Fatal(err)
		}
		f := newFakeVault()
		if _, err := f.open(t, kwargs).Connection(t.Context(), "x"); err != nil {
			t.Errorf("%s: %v", c.kwargs, err)
			continue
		}
		if got := f.asked[0].URL.Path; got != "/v1/auth/"+c.path || f.bodies[0] != c.body ||
			f.asked[0].Header.Get("X-Vault-Token") != "" {
			t.Errorf("%s: %s %s", c.kwargs, got, f.bodies[0])
		}
		if got := f.asked[1].Header.Get("X-Vault-Token"); got != "issued-1" {
			t.Errorf("%s: the read came with the token %q", c.kwargs, got)
		}
	}
}

func TestGoogleLoginIsSigned(t *testing.T) {
	file, key := newKeyFile(t)
	f := newFakeVault()
	v := f.open(t, map[string]any{"auth_type": "gcp", "role_id": "r", "gcp_scopes": "s",
		"gcp_keyfile_dict": file})
	if _, err := v.Connection(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	var body struct{ Role, JWT string }
	if err := json.Unmarshal([]byte(f.bodies[0]), &body); err != nil || body.Role != "r" {
		t.Fatalf("%s: %v", f.bodies[0], err)
	}
	parts := strings.Split(body.JWT, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	decode := func(part string) []byte {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:],
		decode(parts[2])); err != nil {
		t.Error(err)
	}
	var header, claims map[string]any
	if json.Unmarshal(decode(parts[0]), &header) != nil ||
		json.Unmarshal(decode(parts[1]), &claims) != nil {
		t.Fatal("the token's parts are not JSON")
	}
	issued, _ := claims["iat"].(float64)
	want := map[string]any{"iat": issued, "exp": issued + 900, "sub": "a@p.example",
		"aud": "vault/r"}
	if diff := cmp.Diff(want, claims); diff != "" || header["kid"] != "k1" ||
		header["alg"] != "RS256" || issued == 0 {
		t.Errorf("header %v, claims (-want +got):\n%s", header, diff)
	}
	for _, broken := range []any{map[string]any{}, "nonsense",
		map[string]any{"private_key": "hunter2"}} {
		v := newFakeVault().open(t, map[string]any{"auth_type": "gcp", "role_id": "r",
			"gcp_keyfile_dict": broken})
		if _, err := v.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Denied ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v", broken, err)
		}
	}
}

func TestCheckSaysWhichCallIsRefused(t *testing.T) {
	f := newFakeVault("t")
	f.answer = func(r *http.Request) (int, string) {
		if r.URL.Path == "/v1/sys/capabilities-self" {
			if strings.Contains(f.bodies[len(f.bodies)-1], "metadata") {
				return 200, `{"data":{"capabilities":["deny"]}}`
			}
			return 200, `{"data":{"capabilities":["read"]}}`
		}
		return 0, ""
	}
	var got []string
	v := f.open(t, map[string]any{"token": "t", "connections_path": []string{"a", "b"}})
	for _, c := range v.Check(t.Context()) {
		result := "ok"
		if c.Err != nil {
			result = conn.KindOf(c.Err).String()
		}
		got = append(got, fmt.Sprintf("%s: %s", c.Call, result))
	}
	want := []string{
		"token: ok", "auth/token/lookup-self: ok", "mount secret: ok",
		"read secret/data/a/" + checkID + ": ok", "list secret/metadata/a/: denied",
		"mount secret: ok",
		"read secret/data/b/" + checkID + ": ok", "list secret/metadata/b/: denied",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for call := range f.counts() {
		if strings.Contains(call, "/secret/") && !strings.HasSuffix(call, "/"+checkID) {
			t.Errorf("a connection was read: %s", call)
		}
	}
}
