//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connfs/connfs/integration/servers"
)

// alternative is an alternative backend on a real server, behind a proxy that counts its
// calls and can fail.
type alternative struct {
	name   string // under which audit lines show it
	tables string // [secrets]
	proxy  *servers.FaultProxy
	put    func(id, value string)
	get    string // the call that reads one connection
	login  string // the call that logs in
}

// fill puts the connections m0, m1 and so on with these passwords into the backend, and
// returns its table.
func (b *alternative) fill(passwords []string) string {
	for i, password := range passwords {
		b.put(fmt.Sprint("m", i), fileText("http", "h.example", password, ""))
	}
	return b.tables
}

// secretsTable is a [secrets] table.
func secretsTable(t *testing.T, backend string, kwargs map[string]any) string {
	t.Helper()
	return fmt.Sprintf("[secrets]\nbackend = %q\nbackend_kwargs = %s\n", backend, inline(t, kwargs))
}

// inline writes a value as TOML does on one line.
func inline(t *testing.T, value any) string {
	t.Helper()
	if object, ok := value.(map[string]any); ok {
		var pairs []string
		for key, value := range object {
			pairs = append(pairs, key+" = "+inline(t, value))
		}
		return "{ " + strings.Join(pairs, ", ") + " }"
	}
	text, err := json.Marshal(value)
	must(t, err)
	return string(text)
}

// parameterStore is SSM, which a role must be assumed for.
func parameterStore(t *testing.T) *alternative {
	t.Helper()
	m := servers.StartMoto(t)
	p := servers.StartFaultProxy(t, m.URL)
	return &alternative{
		name: "aws_ssm", proxy: p, get: "AmazonSSM.GetParameter", login: "AssumeRole",
		tables: secretsTable(t, "aws_ssm", map[string]any{
			"connections_prefix": "/airflow/connections", "region_name": "eu-west-1",
			"endpoint_url": p.URL, "aws_access_key_id": "test", "aws_secret_access_key": "test",
			"role_arn":       "arn:aws:iam::123456789012:role/connfs",
			"service_config": map[string]any{"sts": map[string]any{"endpoint_url": p.URL}},
		}),
		put: func(id, value string) {
			body, err := json.Marshal(map[string]any{
				"Name": "/airflow/connections/" + id, "Value": value, "Type": "SecureString",
				"Overwrite": true,
			})
			must(t, err)
			m.Populate("AmazonSSM.PutParameter", string(body))
		},
	}
}

// vault is a Vault server with a kv engine of version 2 and a role for connfs.
func vault(t *testing.T) *alternative {
	t.Helper()
	v := servers.StartVault(t)
	p := servers.StartFaultProxy(t, v.URL)
	v.Mount("secret", 2)
	v.Do("PUT", "/v1/sys/policies/acl/connfs", map[string]any{
		"policy": `path "secret/data/connections/*" { capabilities = ["read"] } path "secret/metadata/connections" { capabilities = ["list"] } path "secret/metadata/connections/*" { capabilities = ["list"] }`,
	})
	v.Do("POST", "/v1/sys/auth/approle", map[string]any{"type": "approle"})
	v.Do("POST", "/v1/auth/approle/role/connfs", map[string]any{
		"token_policies": "connfs", "token_ttl": "1h",
	})
	data := func(answer map[string]any, key string) string {
		return answer["data"].(map[string]any)[key].(string)
	}
	role := data(v.Do("GET", "/v1/auth/approle/role/connfs/role-id", nil), "role_id")
	secret := data(v.Do("POST", "/v1/auth/approle/role/connfs/secret-id", map[string]any{}),
		"secret_id")
	return &alternative{
		name: "vault", proxy: p, get: "GET /v1/secret/data/", login: "PUT /v1/auth/approle/login",
		tables: secretsTable(t, "vault", map[string]any{
			"url": p.URL, "auth_type": "approle", "role_id": role, "secret_id": secret,
			"connections_path": "connections", "mount_point": "secret",
		}),
		put: func(id, value string) {
			v.Do("POST", "/v1/secret/data/connections/"+id, map[string]any{
				"data": map[string]any{"conn_uri": value},
			})
		},
	}
}

// alternatives are those that the tests of this file run on.
var alternatives = map[string]func(*testing.T) *alternative{
	"Parameter Store": parameterStore,
	"Vault":           vault,
}

// eachAlternative runs f on every alternative backend.
func eachAlternative(t *testing.T, f func(t *testing.T, b *alternative)) {
	t.Parallel()
	for name, start := range alternatives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, start(t))
		})
	}
}

// calls counts the calls of a name, whole or as a prefix.
func calls(all map[string]int, name string) (n int) {
	for call, count := range all {
		if strings.HasPrefix(call, name) {
			n += count
		}
	}
	return n
}

func TestAnAlternativeBackendIsAskedFirst(t *testing.T) {
	eachAlternative(t, func(t *testing.T, b *alternative) {
		s, key := newSite(t), newKey(t)
		in := map[string]string{
			"alternative": canary(), "metastore": canary(), "environment": canary(),
		}
		b.put("m0", fileText("http", "h.example", in["alternative"], ""))
		b.put("only", fileText("http", "h.example", in["alternative"], ""))
		url := s.sqliteMetastore(rows(t, key, []string{in["metastore"], in["metastore"]}))
		var variables []string
		for i := range 3 {
			variables = append(
				variables,
				fmt.Sprintf("AIRFLOW_CONN_M%d=%s", i,
					strings.TrimSpace(fileText("http", "h.example", in["environment"], ""))),
			)
		}
		s.configure(
			"",
			b.tables+metastoreTable(url, key)+s.environment(variables...)+grant(alice, "m*", "only",
				"none"),
		)
		d, a := s.serve(), as(t, alice)
		for id, source := range map[string]string{
			"m0": "alternative", "only": "alternative", "m1": "metastore", "m2": "environment",
		} {
			a.reads(d.file(id), fileText("http", "h.example", in[source], ""))
		}
		a.fails(d.file("none"), "ENOENT")
		if len(d.auditLines(`"id":"only"`, `"source":"`+b.name+`"`)) != 1 {
			t.Errorf("the audit does not name %s", b.name)
		}
		eventually(t, "everything is listed", func() bool {
			names := a.do(request{Op: "list", Path: d.mount}).Names
			return strings.Join(names, " ") == "m0.json m1.json m2.json only.json"
		})
		// An id that is not granted never reaches the backend.
		b.proxy.Calls()
		as(t, bob).fails(d.file("only"), "EACCES")
		if n := b.proxy.Calls(); calls(n, b.get) != 0 {
			t.Errorf("for a refused reader: %v", n)
		}
		d.saysNothing(in["alternative"], in["metastore"], in["environment"])
	})
}

func TestOneLoginServesManyGenerations(t *testing.T) {
	eachAlternative(t, func(t *testing.T, b *alternative) {
		s, password := newSite(t), canary()
		b.put("m0", fileText("http", "h.example", password, ""))
		s.configure("ttl = \"0s\"\nepoch = \"1s\"\ntimeout = \"20s\"", b.tables+grant(alice, "*"))
		d, a := s.serve(), as(t, alice)
		// The first generation may have to log in before anybody reads.
		a.reads(d.file("m0"), fileText("http", "h.example", password, ""))
		counts := a.do(request{
			Op: "churn", Paths: []string{d.file("m0")}, N: 4, For: time.Minute,
		}).Counts
		want := digest([]byte(fileText("http", "h.example", password, "")))
		if counts[want] < 60 || len(counts) != 1 {
			t.Errorf("in a minute: %v", counts)
		}
		got := b.proxy.Calls()
		if n := calls(got, b.login); n != 1 {
			t.Errorf("%d logins in 60 generations: %v", n, got)
		}
		t.Logf("%d reads, calls: %v", counts[want], got)
	})
}

func TestErrnoOfAnAlternativeBackendThatFails(t *testing.T) {
	eachAlternative(t, func(t *testing.T, b *alternative) {
		s, password := newSite(t), canary()
		text := fileText("http", "h.example", password, "")
		for _, id := range []string{"m0", "m1"} {
			b.put(id, text)
		}
		s.configure(
			fmt.Sprintf("timeout = %q\nttl = \"0s\"\nnegative_ttl = \"0s\"\nepoch = \"5s\"",
				readTimeout),
			b.tables+grant(alice, "*"),
		)
		d, a := s.serve(), as(t, alice)
		a.reads(d.file("m0"), text)
		for _, c := range []struct {
			name, errno string
			fault       servers.Fault
		}{
			{"black hole", "ETIMEDOUT", servers.Fault{Hang: true}},
			{"resets", "EIO", servers.Fault{Reset: true}},
			{"server errors", "EIO", servers.Fault{Status: 503, Body: "{}"}},
			{"a body that is cut", "EIO", servers.Fault{Cut: 20}},
		} {
			b.proxy.Inject(c.fault)
			for range 2 {
				a.failsInTime(d.file("m0"), c.errno)
			}
			b.proxy.Heal()
			since := time.Now()
			a.recovers(d.file("m1"), text)
			if took := time.Since(since); took > 2*time.Second {
				t.Errorf("%s: readers are served again after %v", c.name, took)
			}
		}
		// In an outage the service gets one probe each half second, however many readers ask.
		b.proxy.Calls()
		b.proxy.Inject(servers.Fault{Hang: true})
		since := time.Now()
		for range 100 {
			a.failsInTime(d.file("m0"), "ETIMEDOUT")
		}
		if n, most := calls(b.proxy.Calls(), b.get), 4+int(
			time.Since(since)/(500*time.Millisecond),
		); n > most {
			t.Errorf("%d calls for 100 reads, and %d probes are due at most", n, most)
		}
		b.proxy.Heal()
		a.recovers(d.file("m0"), text)
		b.proxy.Down()
		for range 5 {
			a.failsInTime(d.file("m0"), "EIO")
		}
		b.proxy.Up()
		a.recovers(d.file("m0"), text)
		d.saysNothing(password)
	})
}

func TestThousandReadersMakeOneCall(t *testing.T) {
	eachAlternative(t, func(t *testing.T, b *alternative) {
		s, password := newSite(t), canary()
		text := fileText("http", "h.example", password, "")
		b.put("m0", text)
		b.put("m1", text)
		s.configure("ttl = \"30s\"\ntimeout = \"20s\"", b.tables+grant(alice, "*"))
		d, a := s.serve(), as(t, alice)
		a.reads(d.file("m1"), text)
		b.proxy.Calls()
		// Slow enough that all of them wait for it.
		b.proxy.Inject(servers.Fault{Delay: time.Second})
		got := a.do(request{Op: "storm", Path: d.file("m0"), N: 1000})
		want := map[string]int{digest([]byte(text)): 1000}
		if !maps.Equal(got.Counts, want) {
			t.Errorf("the readers saw %v", got.Counts)
		}
		if all := b.proxy.Calls(); calls(all, b.get) != 1 {
			t.Errorf("calls: %v", all)
		}
	})
}

// A user who lists in a loop does not spend the site's rate of requests: the more pages there
// are, the less often they are asked for.
func TestListingInALoopSparesTheParameterStore(t *testing.T) {
	t.Parallel()
	const (
		page  = "AmazonSSM.DescribeParameters"
		every = 3 * time.Second // for each page
	)
	s, b := newSite(t), parameterStore(t)
	var names []string
	for i := range 60 {
		id := fmt.Sprintf("m%02d", i)
		b.put(id, fileText("http", "h.example", "made-up", ""))
		names = append(names, id+".json")
	}
	s.configure("", b.tables+grant(alice, "m*")+grant(bob, "m*"))
	d := s.serve()
	readers := []*reader{as(t, alice), as(t, bob)}
	eventually(t, "everything is listed", func() bool {
		return slices.Equal(readers[0].do(request{Op: "list", Path: d.mount}).Names, names)
	})
	pages := calls(b.proxy.Calls(), page)
	if pages < 2 {
		t.Fatalf("a listing takes %d calls", pages)
	}
	for since, lists := time.Now(), 0; ; lists++ {
		for _, r := range readers {
			r.lists(d.mount, names)
		}
		if took := time.Since(since); took > 15*time.Second {
			n, most := calls(b.proxy.Calls(), page), pages+int(took/every)
			if n > most {
				t.Errorf("%d calls in %v for %d times ls, want %d at most", n, took, 2*lists, most)
			}
			return
		}
	}
}
