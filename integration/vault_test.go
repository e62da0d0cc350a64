//go:build integration

package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/connfs/connfs/integration/servers"
)

// Children live for seconds, and must not log in to Vault one by one.
func TestVaultLoginOutlivesTheChildren(t *testing.T) {
	t.Parallel()
	v := servers.StartVault(t)
	v.Mount("airflow", 2)
	v.Do("PUT", "/v1/sys/policies/acl/reader", map[string]string{
		"policy": `path "airflow/*" { capabilities = ["read", "list"] }`,
	})
	v.Do("POST", "/v1/sys/auth/approle", map[string]string{"type": "approle"})
	v.Do("POST", "/v1/auth/approle/role/connfs", map[string]string{
		"token_policies": "reader", "token_ttl": "1h",
	})
	v.Do("POST", "/v1/auth/approle/role/connfs/role-id", map[string]string{"role_id": "the-role"})
	v.Do("POST", "/v1/auth/approle/role/connfs/custom-secret-id",
		map[string]string{"secret_id": "the-secret"})
	password := canary()
	for _, id := range []string{"a", "team/b"} {
		v.Do("POST", "/v1/airflow/data/connections/"+id, map[string]any{
			"data": map[string]any{"conn_type": "http", "host": "h", "password": password},
		})
	}
	proxy := servers.StartFaultProxy(t, v.URL)
	s := newSite(t)
	s.configure("epoch = \"1s\"\nttl = \"200ms\"\nmemory_lock = \"try\"", `[secrets]
backend = "airflow.providers.hashicorp.secrets.vault.VaultBackend"
backend_kwargs = { mount_point = "airflow", auth_type = "approle", role_id = "the-role", secret_id = "the-secret" }
`+grant(alice, "*"))
	// The address reaches the children from the daemon's environment.
	s.serve("VAULT_ADDR=" + proxy.URL)
	want := fileText("http", "h", password, "")
	r := as(t, alice)
	logins, fetches := 0, 0
	count := func() {
		for call, n := range proxy.Calls() {
			switch call {
			case "PUT /v1/auth/approle/login":
				logins += n
			case "GET /v1/airflow/data/connections/a", "GET /v1/airflow/data/connections/team/b":
				fetches += n
			}
		}
	}
	read := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			r.reads(s.file("a"), want)
			r.reads(s.file("team%2Fb"), want)
			// The pace of the readers; nothing is awaited.
			time.Sleep(10 * time.Millisecond)
		}
		count()
	}
	read(time.Minute)
	if logins != 1 || fetches < 100 {
		t.Errorf("a minute of one-second generations: %d logins for %d fetches", logins, fetches)
	}
	logins = 0
	v.Do("PUT", "/v1/sys/leases/revoke-prefix/auth/approle/login", nil)
	read(5 * time.Second)
	// The child that serves and the one that waits for its turn may both notice it, each
	// before it hears of the other's login.
	if logins < 1 || logins > 2 {
		t.Errorf("after the token was revoked: %d logins", logins)
	}
	t.Logf("%d fetches", fetches)
	eventually(t, "the directory lists what Vault has", func() bool {
		return fmt.Sprint(
			r.do(request{Op: "list", Path: s.mount}).Names,
		) == "[a.json team%2Fb.json]"
	})
}
