//go:build integration

package vault_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/resolvetest"
	"github.com/connfs/connfs/resolve/vault"
)

// liveVault is a server with the connection "x", an AppRole that may read it and list,
// and a proxy in front that counts and fails.
type liveVault struct {
	*servers.Vault
	proxy  *servers.FaultProxy
	kwargs map[string]any
}

const loginCall, readCall = "PUT /v1/auth/approle/login", "GET /v1/secret/data/connections/x"

// startLiveVault starts them; the role's tokens live for ttl.
func startLiveVault(t *testing.T, ttl string) *liveVault {
	t.Helper()
	v := servers.StartVault(t)
	v.Mount("secret", 2)
	v.Do("PUT", "/v1/sys/policies/acl/reader", map[string]string{"policy": `path "secret/data/connections/*" { capabilities = ["read"] }
		path "secret/metadata/connections/*" { capabilities = ["list"] } path "secret/data/connections/denied" { capabilities = ["deny"] }`})
	v.Do("POST", "/v1/sys/auth/approle", map[string]string{"type": "approle"})
	v.Do("POST", "/v1/auth/approle/role/connfs", map[string]string{"token_policies": "reader",
		"token_ttl": ttl, "token_max_ttl": "1h"})
	v.Do("POST", "/v1/auth/approle/role/connfs/role-id", map[string]string{"role_id": "the-role"})
	v.Do("POST", "/v1/auth/approle/role/connfs/custom-secret-id",
		map[string]string{"secret_id": "the-secret"})
	put(v, 2, "secret", "connections/x", map[string]any{"conn_uri": "http://user:pw@h/"})
	p := servers.StartFaultProxy(t, v.URL)
	return &liveVault{v, p, map[string]any{"url": p.URL, "auth_type": "approle",
		"role_id": "the-role", "secret_id": "the-secret"}}
}

func (v *liveVault) open(t *testing.T) *vault.Store {
	t.Helper()
	return resolvetest.Open(t, vault.Open, v.kwargs).(*vault.Store)
}

// revoke makes Vault forget every token of the role.
func (v *liveVault) revoke() { v.Do("PUT", "/v1/sys/leases/revoke-prefix/auth/approle/login", nil) }

func readX(t *testing.T, b backend.Backend, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := b.Connection(ctx, "x")
	return err
}

// readers reads with many at once and fails the test where one of them fails.
func readers(t *testing.T, b backend.Backend) {
	t.Helper()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := readX(t, b, 30*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestRenewsAndReplacesTokens(t *testing.T) {
	v := startLiveVault(t, "3s")
	b := v.open(t)
	readers(t, b)
	// Six seconds are two lives of the token.
	calls := v.proxy.Calls()
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		readers(t, b)
		for name, n := range v.proxy.Calls() {
			calls[name] += n
		}
	}
	renewals := calls["PUT /v1/auth/token/renew-self"]
	// A machine that pauses for a second may miss the time of a renewal.
	if calls[loginCall]+renewals < 3 || renewals < 1 || calls[loginCall]+renewals > 12 {
		t.Errorf("%d logins, %d renewals", calls[loginCall], renewals)
	}
	v.Do("POST", "/v1/auth/approle/role/connfs", map[string]string{"token_policies": "reader",
		"token_ttl": "1h"})
	b = v.open(t)
	readers(t, b)
	v.proxy.Calls()
	for range 3 {
		v.revoke()
		readers(t, b)
		if calls := v.proxy.Calls(); calls[loginCall] != 1 {
			t.Errorf("revoked: %v", calls)
		}
	}
}

func TestGenerationsOfChildrenLogInOnce(t *testing.T) {
	v := startLiveVault(t, "1h")
	all := make(map[string]int)
	var identity []byte
	for range 50 {
		b := v.open(t)
		b.Adopt(identity)
		if err := b.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		readers(t, b)
		identity = b.Identity()
		b.Close()
		for name, n := range v.proxy.Calls() {
			all[name] += n
		}
	}
	if all[loginCall] != 1 || all[readCall] != 1000 {
		t.Errorf("%v", all)
	}
}

func TestSealed(t *testing.T) {
	v := startLiveVault(t, "1h")
	b := v.open(t)
	for range 2 {
		readers(t, b)
		v.Seal()
		resolvetest.WantKind(t, "sealed", readX(t, b, 5*time.Second), conn.Unreachable)
		_, err := b.List(t.Context())
		resolvetest.WantKind(t, "sealed: list", err, conn.Unreachable)
		resolvetest.WantKind(t, "sealed: login", readX(t, v.open(t), 5*time.Second),
			conn.Unreachable)
		v.Unseal()
		awaitRead(t, "unsealed", b)
	}
}

// awaitRead waits until a read succeeds, for a second of the backend's own doing and what
// a loaded machine takes beyond that.
func awaitRead(t *testing.T, what string, b backend.Backend) {
	t.Helper()
	start := time.Now()
	var err error
	for time.Since(start) < 10*time.Second {
		if err = readX(t, b, time.Second); err == nil {
			t.Logf("%s: read again after %v", what, time.Since(start))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s: %v", what, err)
}

func TestFaults(t *testing.T) {
	v := startLiveVault(t, "1h")
	const short, long = 1500 * time.Millisecond, 30 * time.Second
	leaks := goleak.IgnoreCurrent()
	for name, f := range map[string]struct {
		fault servers.Fault
		kind  conn.Kind // Failed: none, the read succeeds
	}{
		"latency":         {servers.Fault{Delay: 300 * time.Millisecond}, conn.Failed},
		"long latency":    {servers.Fault{Delay: time.Minute}, conn.Timeout},
		"black hole":      {servers.Fault{Hang: true}, conn.Timeout},
		"reset":           {servers.Fault{Reset: true}, conn.Unreachable},
		"one reset":       {servers.Fault{Reset: true, Times: 1}, conn.Failed},
		"cut in the body": {servers.Fault{Cut: 20}, conn.Unreachable},
		"one cut":         {servers.Fault{Cut: 20, Times: 1}, conn.Failed},
		"slow drip":       {servers.Fault{Drip: time.Millisecond}, conn.Failed},
		"slower drip":     {servers.Fault{Drip: time.Second}, conn.Timeout},
		"sealed":          {servers.Fault{Status: 503, Body: `{"errors":["Vault is sealed"]}`}, conn.Unreachable},
		"throttled":       {servers.Fault{Status: 429, Body: `{"errors":[]}`, Times: 1}, conn.Failed},
	} {
		for _, state := range []string{"cold", "warm"} {
			what := name + ", " + state
			b := v.open(t)
			if state == "warm" {
				if err := b.Warm(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			v.proxy.Inject(f.fault)
			if f.kind == conn.Failed {
				if err := readX(t, b, long); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			} else {
				deadline := long
				if f.kind == conn.Timeout {
					deadline = short // only what never answers needs its end
				}
				start := time.Now()
				err := readX(t, b, deadline)
				if took := time.Since(start); took > deadline+resolvetest.Patience {
					t.Errorf("%s: answered after %v", what, took)
				}
				resolvetest.WantKind(t, what, err, f.kind)
			}
			v.proxy.Heal()
			awaitRead(t, what, b)
			b.Close()
		}
	}
	b := v.open(t)
	readers(t, b)
	v.proxy.Down()
	resolvetest.WantKind(t, "gone", readX(t, b, long), conn.Unreachable)
	v.proxy.Up()
	awaitRead(t, "returned", b)
	b.Close()
	v.proxy.Down()
	goleak.VerifyNone(t, leaks)
}

func TestPermissions(t *testing.T) {
	v := startLiveVault(t, "1h")
	b := v.open(t)
	for range 50 {
		if _, err := b.Connection(t.Context(), "denied"); conn.KindOf(err) != conn.Denied {
			t.Errorf("denied: %v", err)
		}
	}
	if calls := v.proxy.Calls(); calls[loginCall] != 1 {
		t.Errorf("logins for what the policies deny: %v", calls)
	}
	for name, change := range map[string]map[string]any{
		"wrong secret":        {"secret_id": "hunter2"},
		"wrong role":          {"role_id": "hunter2"},
		"no such method":      {"auth_mount_point": "hunter2"},
		"wrong token":         {"auth_type": "token", "token": "hunter2"},
		"password, no method": {"auth_type": "ldap", "username": "u", "password": "hunter2"},
	} {
		kwargs := maps.Clone(v.kwargs)
		maps.Copy(kwargs, change)
		b := resolvetest.Open(t, vault.Open, kwargs).(*vault.Store)
		_, err := b.Connection(t.Context(), "x")
		resolvetest.WantKind(t, name, err, conn.Denied)
		_, err = b.List(t.Context())
		resolvetest.WantKind(t, name+": list", err, conn.Denied)
	}
	for _, c := range b.Check(t.Context()) {
		if c.Err != nil {
			t.Errorf("check: %s: %v", c.Call, c.Err)
		}
	}
	kwargs := maps.Clone(v.kwargs)
	kwargs["connections_path"] = "elsewhere"
	refused := 0
	for _, c := range resolvetest.Open(t, vault.Open, kwargs).(*vault.Store).Check(t.Context()) {
		if c.Err != nil {
			resolvetest.WantKind(t, c.Call, c.Err, conn.Denied)
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d calls are refused elsewhere", refused)
	}
}

// Where the mount is not what the arguments say, no connection would ever be found, and a stale
// one of the next backend would be served.
func TestAWrongMountIsNoAbsence(t *testing.T) {
	v := servers.StartVault(t)
	v.Mount("one", 1)
	v.Mount("two", 2)
	v.Do("PUT", "/v1/sys/policies/acl/narrow", map[string]string{
		"policy": `path "nothing/*" { capabilities = ["read"] }`})
	v.Do("POST", "/v1/auth/token/create", map[string]any{"id": "narrow",
		"policies": []string{"narrow"}})
	type kwargs = map[string]any
	for name, c := range map[string]struct {
		kwargs kwargs
		id     string
		want   string // a part of the reason; empty: absent
	}{
		"the right mount": {kwargs{"mount_point": "two"}, "x", ""},
		"version 1":       {kwargs{"mount_point": "one", "kv_engine_version": 1}, "x", ""},
		"a folder of version 1": {
			kwargs{"mount_point": "one/f", "kv_engine_version": 1}, "x", ""},
		"no mount": {kwargs{"mount_point": "nothing"}, "x", "no secrets engine"},
		"version 2 named as 1": {
			kwargs{"mount_point": "two", "kv_engine_version": 1}, "x", "version 2"},
		"version 1 named as 2":  {kwargs{"mount_point": "one"}, "x", "version 1"},
		"a folder of version 2": {kwargs{"mount_point": "two/f"}, "x", "version 2"},
		"another engine": {kwargs{"mount_point": "identity", "kv_engine_version": 1}, "x",
			"not a key-value engine"},
		"no mount, and few rights": {
			kwargs{"mount_point": "nothing", "token": "narrow"}, "x", "no secrets engine"},
		"an id that names none":        {kwargs{"mount_point": nil}, "nothing/x", ""},
		"an id that names a wrong one": {kwargs{"mount_point": nil}, "one/x", "version 1"},
	} {
		t.Run(name, func(t *testing.T) {
			all := kwargs{"url": v.URL, "token": v.Token}
			maps.Copy(all, c.kwargs)
			b := resolvetest.Open(t, vault.Open, all).(*vault.Store)
			_, err := b.Connection(t.Context(), c.id)
			want := conn.Absent
			if c.want != "" {
				want = conn.Unreachable
			}
			resolvetest.WantKind(t, "read", err, want)
			if err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if c.kwargs["mount_point"] == nil {
				return
			}
			var wrong error
			for _, check := range b.Check(t.Context()) {
				if strings.HasPrefix(check.Call, "mount ") {
					wrong = check.Err
				}
			}
			if (wrong != nil) != (c.want != "") ||
				wrong != nil && !strings.Contains(wrong.Error(), c.want) {
				t.Errorf("check: %v, want %q", wrong, c.want)
			}
			if c.want != "" && all["token"] != "narrow" {
				_, err := b.List(t.Context())
				resolvetest.WantKind(t, "list", err, conn.Unreachable)
			}
		})
	}
}

// A child tells the next which mounts it has looked at.
func TestLooksAtAMountOnceAMinute(t *testing.T) {
	v := startLiveVault(t, "1h")
	looks := 0
	var identity []byte
	for range 5 {
		b := v.open(t)
		b.Adopt(identity)
		for range 3 {
			_, err := b.Connection(t.Context(), "missing")
			resolvetest.WantKind(t, "missing", err, conn.Absent)
		}
		identity = b.Identity()
		looks += v.proxy.Calls()["GET /v1/sys/internal/ui/mounts/secret"]
	}
	if looks != 1 {
		t.Errorf("the mount was looked at %d times", looks)
	}
}

func TestListsFoldersWithinBounds(t *testing.T) {
	v := servers.StartVault(t)
	v.Mount("kv", 1)
	for i := range 30 {
		put(v, 1, "kv", fmt.Sprintf("c/f%d/g/x", i), map[string]any{"host": "h"})
		put(v, 1, "kv", fmt.Sprintf("c/f%d", i), map[string]any{"host": "h"})
	}
	kwargs := map[string]any{"url": v.URL, "token": v.Token, "mount_point": "kv",
		"kv_engine_version": 1, "connections_path": []string{"c", "nothing", "c/f7"}}
	ids, err := resolvetest.Open(t, vault.Open, kwargs).(backend.Lister).List(t.Context())
	if err != nil || len(ids) != 61 {
		t.Errorf("%d ids, %v", len(ids), err)
	}
	deep := "c"
	for range 40 {
		deep += "/d"
	}
	put(v, 1, "kv", deep, map[string]any{"host": "h"})
	_, err = resolvetest.Open(t, vault.Open, kwargs).(backend.Lister).List(t.Context())
	resolvetest.WantKind(t, "too deep", err, conn.Failed)
}

func TestTLS(t *testing.T) {
	v, c := servers.StartVaultTLS(t)
	// The server has no engine: an id that names a mount which is not there is absent.
	kwargs := map[string]any{"url": v.URL, "token": v.Token, "mount_point": nil}
	for name, verify := range map[string]any{"unknown authority": nil,
		"another authority": c.OtherCA, "its authority": c.CA, "not verified": false} {
		kwargs["verify"] = verify
		want := conn.Absent
		if name == "unknown authority" || name == "another authority" {
			want = conn.Unreachable
		}
		_, err := resolvetest.Open(t, vault.Open, kwargs).Connection(t.Context(), "mount/x")
		resolvetest.WantKind(t, name, err, want)
	}
	t.Setenv("REQUESTS_CA_BUNDLE", c.CA)
	kwargs["verify"] = true
	_, err := resolvetest.Open(t, vault.Open, kwargs).Connection(t.Context(), "mount/x")
	resolvetest.WantKind(t, "authority of the environment", err, conn.Absent)
}
