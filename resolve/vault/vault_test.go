package vault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/resolve/backend"
)

func TestNamesArgumentsItCannotHonour(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "")
	for name, c := range map[string]struct {
		kwargs string
		want   string // the argument that is named
	}{
		"no token":                   {`{}`, "token:"},
		"unknown argument":           {`{"token": "hunter2", "tokn": "hunter2"}`, "tokn:"},
		"object of Python's":         {`{"token": "hunter2", "session": {}}`, "session:"},
		"unknown auth_type":          {`{"auth_type": "cert"}`, "auth_type:"},
		"azure":                      {`{"auth_type": "azure", "azure_resource": "r", "azure_tenant_id": "t", "secret_id": "hunter2"}`, "auth_type:"},
		"radius":                     {`{"auth_type": "radius", "radius_host": "h", "radius_secret": "hunter2"}`, "auth_type:"},
		"approle without a role":     {`{"auth_type": "approle", "secret_id": "hunter2"}`, "role_id:"},
		"userpass without a name":    {`{"auth_type": "userpass", "password": "hunter2"}`, "username:"},
		"username that is a path":    {`{"auth_type": "userpass", "username": "../x", "password": "hunter2"}`, "username:"},
		"ldap without a password":    {`{"auth_type": "ldap", "username": "u"}`, "password:"},
		"github without a token":     {`{"auth_type": "github"}`, "token:"},
		"kubernetes without a role":  {`{"auth_type": "kubernetes"}`, "kubernetes_role:"},
		"kubernetes without a file":  {`{"auth_type": "kubernetes", "kubernetes_role": "r", "kubernetes_jwt_path": ""}`, "kubernetes_jwt_path:"},
		"jwt without a role":         {`{"auth_type": "jwt", "jwt_token": "hunter2"}`, "jwt_role:"},
		"jwt without a token":        {`{"auth_type": "jwt", "jwt_role": "r"}`, "jwt_token:"},
		"gcp without a key":          {`{"auth_type": "gcp", "role_id": "r", "gcp_scopes": "s"}`, "gcp_key_path:"},
		"aws role of unknown form":   {`{"auth_type": "aws_iam", "assume_role_kwargs": {"RoleArn": "a", "RoleSessionName": "s", "Tags": []}}`, "assume_role_kwargs:"},
		"aws role without a name":    {`{"auth_type": "aws_iam", "assume_role_kwargs": {"RoleArn": "a"}}`, "assume_role_kwargs:"},
		"engine version 3":           {`{"token": "hunter2", "kv_engine_version": 3}`, "kv_engine_version:"},
		"engine version as text":     {`{"token": "hunter2", "kv_engine_version": "2"}`, "kv_engine_version:"},
		"folder that leaves":         {`{"token": "hunter2", "connections_path": "a/../b"}`, "connections_path:"},
		"folder of no string":        {`{"token": "hunter2", "connections_path": ["a", null]}`, "connections_path:"},
		"mount that leaves":          {`{"token": "hunter2", "mount_point": ".."}`, "mount_point:"},
		"global folder of no string": {`{"token": "hunter2", "global_secrets_path": 1}`, "global_secrets_path:"},
		"address without a scheme":   {`{"token": "hunter2", "url": "user:hunter2@vault:8200"}`, "url:"},
		"proxies":                    {`{"token": "hunter2", "proxies": {"http": 1}}`, "proxies:"},
		"timeout":                    {`{"token": "hunter2", "timeout": -1}`, "timeout:"},
		"authorities":                {`{"token": "hunter2", "verify": "/nothing/hunter2"}`, "verify:"},
		"certificate":                {`{"token": "hunter2", "cert": ["/nothing/hunter2"]}`, "cert:"},
		"certificate of no file":     {`{"token": "hunter2", "cert": "/nothing/hunter2"}`, "cert:"},
	} {
		_, err := backend.Open(&backend.Secrets{Kwargs: c.kwargs}, Open)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) ||
			strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want one error that begins with %q", name, err, c.want)
		}
	}
}

func TestTakesArgumentsOfOtherThings(t *testing.T) {
	_, err := backend.Open(&backend.Secrets{Kwargs: `{
		"variables_path": null, "config_path": ["a"], "token": "t", "auth_type": "token", "username": "u", "radius_port": 1812, "region": "r",
		"namespace": "n", "timeout": 3.5, "verify": false, "cert": null, "proxies": {"https": null, "http": "proxy:3128"}, "strict_http": true,
		"allow_redirects": false, "request_header": true, "kv_engine_version": 0, "use_team_secrets_path": true, "global_secrets_path": null}`}, Open)
	if err != nil {
		t.Error(err)
	}
}

// An id must arrive at the server as it is, or not be sent at all.
func TestSendsExactlyTheID(t *testing.T) {
	f := newFakeVault("t")
	v := f.open(t, map[string]any{"token": "t"})
	ids := []string{"a", "a/b", "a b", "a%2Fb", "%2e%2e", "a?version=1", "a#b", "a;b", "a+b", "ü",
		"a\\b", ".a", "a.", "a\x7f", "a\tb", "~", "a&list=true", "😀", "a:b@c"}
	alphabet := []rune("ab./\\%?#;:&+= ~ü😀\t\x00\n\r\u2028")
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		id := make([]rune, random.IntN(8))
		for i := range id {
			id[i] = alphabet[random.IntN(len(alphabet))]
		}
		ids = append(ids, string(id))
	}
	sent := 0
	for _, id := range ids {
		f.asked = nil
		_, err := v.Connection(t.Context(), id)
		if backend.CheckPathID(id) != nil || strings.Contains(id, "..") {
			if len(f.asked) != 0 || conn.KindOf(err) != conn.Absent {
				t.Errorf("%q: sent as %d calls, %v", id, len(f.asked), err)
			}
			continue
		}
		if err != nil || len(f.asked) != 1 {
			t.Fatalf("%q: %d calls, %v", id, len(f.asked), err)
		}
		sent++
		u := f.asked[0].URL
		// What goes over the wire, read as a server reads it.
		read, err := url.ParseRequestURI(u.RequestURI())
		if err != nil || read.Path != "/v1/secret/data/connections/"+id || read.RawQuery != "" {
			t.Errorf("%q: sent as %q, %v", id, u.RequestURI(), err)
		}
	}
	if sent < 500 {
		t.Errorf("only %d ids were sent", sent)
	}
}

func TestTakesNoPathThatItCouldNotPrint(t *testing.T) {
	f := newFakeVault("t")
	f.answer = func(r *http.Request) (int, string) {
		if strings.ContainsFunc(r.URL.Path, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return 400, ""
		}
		return 0, ""
	}
	v := f.open(t, map[string]any{"token": "t"})
	if _, err := v.Connection(t.Context(), "a\u200bb"); conn.KindOf(err) != conn.Absent {
		t.Errorf("unprintable: %v", err)
	}
	if _, err := v.Connection(t.Context(), "a b"); err != nil {
		t.Errorf("printable: %v", err)
	}
}

func TestStatuses(t *testing.T) {
	const refused = `{"errors":["hunter2"]}`
	for _, c := range []struct {
		status int
		body   string
		kind   conn.Kind
		calls  int
	}{
		{400, refused, conn.Unreachable, 1}, {401, refused, conn.Denied, 1},
		{403, refused, conn.Denied, 1},
		{404, `{"errors":[]}`, conn.Absent, 1}, {404, refused, conn.Absent, 1},
		{404, "<html>", conn.Unreachable, 1}, {404, "", conn.Unreachable, 1},
		{404, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z"}}}`, conn.Absent, 1},
		{405, refused, conn.Unreachable, 1}, {412, refused, conn.Unreachable, 3},
		{414, "", conn.Unreachable, 1}, {418, "", conn.Unreachable, 1},
		{429, refused, conn.Unreachable, 3},
		{472, "", conn.Unreachable, 3}, {473, "", conn.Unreachable, 3},
		{500, refused, conn.Unreachable, 3}, {501, refused, conn.Unreachable, 1},
		{502, "<html>", conn.Unreachable, 3}, {503, refused, conn.Unreachable, 3},
		{504, "", conn.Unreachable, 3}, {599, "", conn.Unreachable, 3},
		{200, "<html>", conn.Unreachable, 1}, {200, "", conn.Unreachable, 1},
		{200, `{"data":`, conn.Unreachable, 1}, {204, "", conn.Unreachable, 1},
		{302, "", conn.Unreachable, 1},
		{200, `{}`, conn.Invalid, 1}, {200, `{"data":{}}`, conn.Invalid, 1},
		{200, `{"data":{"data":null}}`, conn.Absent, 1},
		{200, `{"data":{"data":[]}}`, conn.Invalid, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVault("t")
			f.answer = func(*http.Request) (int, string) { return c.status, c.body }
			v := f.open(t, map[string]any{"token": "t"})
			_, err := v.Connection(t.Context(), "x")
			if err == nil || conn.KindOf(err) != c.kind ||
				strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%d %s: %v, want %v", c.status, c.body, err, c.kind)
			}
			if calls := f.counts()["GET /v1/secret/data/connections/x"]; calls != c.calls {
				t.Errorf("%d %s: %d calls, want %d", c.status, c.body, calls, c.calls)
			}
		})
	}
}

func TestTriesAgainAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault("t")
		failures := 2
		f.answer = func(*http.Request) (int, string) {
			if failures == 0 {
				return 0, ""
			}
			failures--
			return 503, `{"errors":["Vault is sealed"]}`
		}
		v := f.open(t, map[string]any{"token": "t"})
		if _, err := v.Connection(t.Context(), "x"); err != nil {
			t.Errorf("two failures: %v", err)
		}
		failures = 1000
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := v.Connection(ctx, "x"); conn.KindOf(err) != conn.Unreachable ||
			time.Since(start) > 0 {
			t.Errorf("no time to wait: %v after %v", err, time.Since(start))
		}
	})
}

// A body that breaks off says nothing about the connection.
func TestAnswerThatIsCutOffIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{0, 404, 403, 200} {
			f := newFakeVault("t")
			f.cut = true
			f.answer = func(*http.Request) (int, string) { return status, `{"data": {"data": {"conn_uri": "x://h"}}}` }
			if status == 0 {
				f.answer = nil
			}
			v := f.open(t, map[string]any{"token": "t"})
			if _, err := v.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Unreachable {
				t.Errorf("%d: %v", status, err)
			}
		}
	})
}

func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVault("t")
		f.answer = func(*http.Request) (int, string) {
			return 200, `{"data": {"data": {"extra": "` + strings.Repeat("x", maxBody) + `"}}}`
		}
		v := f.open(t, map[string]any{"token": "t"})
		if _, err := v.Connection(t.Context(), "x"); conn.KindOf(err) != conn.TooLarge {
			t.Error(err)
		}
	})
}

func TestValues(t *testing.T) {
	const sealed = `{"connfs_sealed": 1}`
	text := func(s string) *string { return &s }
	for secret, want := range map[string]*conn.Connection{
		`{"conn_uri": " mysql://h "}`: {Type: text("mysql"), Host: text("h"),
			Schema: text("")},
		`{"conn_uri": "{\"host\": \"h\"}", "host": "ignored"}`:               {Host: text("h")},
		`{"host": "h", "extra": {"b": 1, "a": [1e3, 10000000000000000000]}}`: {Host: text("h"), Extra: conn.NewSecret(`{"b": 1, "a": [1000.0, 10000000000000000000]}`)},
		`{}`:                                     {},
		sealed:                                   {Extra: conn.NewSecret(sealed)},
		`{"conn_uri": "{\"connfs_sealed\": 1}"}`: {Extra: conn.NewSecret(sealed)},
		`{"conn_uri": ""}`:                       nil, `{"conn_uri": null}`: nil, `{"conn_uri": "", "host": "h"}`: nil, `{"conn_uri": 7}`: nil,
		`{"conn_uri": []}`: nil, `{"conn_uri": "  "}`: nil, `{"host": 1}`: nil, `{"unknown": "x"}`: nil, `{"port": "x"}`: nil, `"text"`: nil, `[]`: nil,
	} {
		f := newFakeVault("t")
		f.answer = func(*http.Request) (int, string) { return 200, `{"data":{"data":` + secret + `,"metadata":{}}}` }
		got, err := f.open(t, map[string]any{"token": "t"}).Connection(t.Context(), "x")
		if want == nil {
			if conn.KindOf(err) != conn.Invalid || err == nil {
				t.Errorf("%s: %v, want invalid", secret, err)
			}
			continue
		}
		if diff := cmp.Diff(fmt.Sprintf("%q", shown(want)),
			fmt.Sprintf("%q", shown(got))); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", secret, err, diff)
		}
	}
}

// shown returns the fields of a connection of the test's own.
func shown(c *conn.Connection) []string {
	var all []string
	if c == nil {
		return nil
	}
	for _, p := range []*string{c.Type, c.Description, c.Host, c.Login, c.Schema} {
		if p == nil {
			all = append(all, "null")
		} else {
			all = append(all, "text "+*p)
		}
	}
	for _, s := range []conn.Secret{c.Password, c.Extra} {
		text, ok := s.Reveal()
		all = append(all, fmt.Sprint(ok), text)
	}
	return all
}

func TestIgnoresWhatAirflowsClientDoes(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "other")
	t.Setenv("VAULT_NAMESPACE", "other")
	t.Setenv("VAULT_HEADERS", `{"X-Other": "other"}`)
	t.Setenv("VAULT_MAX_RETRIES", "50")
	f := newFakeVault("mine")
	v := f.open(t, map[string]any{"token": "mine", "namespace": "team/a"})
	if _, err := v.Connection(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	want := http.Header{"X-Vault-Token": {"mine"}, "X-Vault-Namespace": {"team/a"},
		"X-Vault-Request": {"true"}}
	if diff := cmp.Diff(want, f.asked[0].Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestProxies(t *testing.T) {
	values, err := arguments.Decode(`{"proxies": {"http": "p1:1", "https": "http://p2:2", "https://special": "https://p3:3", "all": null}}`)
	if err != nil {
		t.Fatal(err)
	}
	proxy := proxyFor(arguments.New(values))
	for address, want := range map[string]string{"http://vault:8200": "http://p1:1",
		"https://vault": "http://p2:2", "https://special:8200": "https://p3:3"} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		got, err := proxy(&http.Request{URL: u})
		if err != nil || got == nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", address, got, err, want)
		}
	}
}

func TestTeams(t *testing.T) {
	for _, c := range []struct {
		settings backend.Secrets
		kwargs   map[string]any
		id, path string // empty: not sent
	}{
		{backend.Secrets{}, nil, "a/b", "connections/a/b"},
		{backend.Secrets{Team: "t"}, nil, "a", "connections/a"},
		{backend.Secrets{MultiTeam: true}, nil, "a", "connections/a"},
		{backend.Secrets{MultiTeam: true}, nil, "t/a", ""},
		{backend.Secrets{MultiTeam: true, Team: "t"}, nil, "a", "connections/t/a"},
		{backend.Secrets{MultiTeam: true, Team: "t"}, nil, "u/a", "connections/t/u/a"},
		{backend.Secrets{MultiTeam: true, Team: "t"}, map[string]any{"connections_path": ""}, "a",
			"t/a"},
		{backend.Secrets{MultiTeam: true, Team: "t"},
			map[string]any{"use_team_secrets_path": false}, "u/a", "connections/u/a"},
		{backend.Secrets{MultiTeam: true}, map[string]any{"mount_point": nil}, "secret/a",
			"connections/a"},
		{backend.Secrets{MultiTeam: true}, map[string]any{"mount_point": nil}, "secret/t/a", ""},
	} {
		f := newFakeVault("t")
		kwargs := map[string]any{"token": "t"}
		for name, v := range c.kwargs {
			kwargs[name] = v
		}
		_, err := f.openFor(t, c.settings, kwargs).Connection(t.Context(), c.id)
		want := map[string]int{}
		if c.path != "" {
			want["GET /v1/secret/data/"+c.path] = 1
		} else if conn.KindOf(err) != conn.Absent {
			t.Errorf("%+v %q: %v, want absent", c.settings, c.id, err)
		}
		if diff := cmp.Diff(want, f.counts()); diff != "" {
			t.Errorf("%+v %q (-want +got):\n%s", c.settings, c.id, diff)
		}
	}
	settings := &backend.Secrets{Kwargs: `{"token": "t"}`, MultiTeam: true, Team: "../x"}
	if _, err := backend.Open(settings, Open); err == nil {
		t.Error("a team that is a path is taken")
	}
}

func TestNeverReadsItsOwnSettings(t *testing.T) {
	f := newFakeVault("t")
	v := f.open(t, map[string]any{"token": "t", "mount_point": nil, "connections_path": "",
		"kv_engine_version": 1})
	for _, id := range []string{"sys/raw", "auth/token/lookup-self", "plain"} {
		if _, err := v.Connection(t.Context(), id); conn.KindOf(err) != conn.Absent {
			t.Errorf("%s: %v", id, err)
		}
	}
	if calls := f.counts(); len(calls) > 0 {
		t.Errorf("calls: %v", calls)
	}
}

// A proxy can refuse the question. Then a mount that has nothing is taken for the right one.
func TestWhereNobodyMayAskForTheMountAPathIsAbsent(t *testing.T) {
	for status, want := range map[int]conn.Kind{403: conn.Absent, 404: conn.Absent,
		405: conn.Absent, 503: conn.Unreachable} {
		f := newFakeVault("t")
		f.answer = func(r *http.Request) (int, string) {
			if strings.HasPrefix(r.URL.Path, "/v1/sys/internal/") {
				return status, `{"errors":["no"]}`
			}
			return 404, `{"errors":[]}`
		}
		_, err := f.open(t, map[string]any{"token": "t"}).Connection(t.Context(), "x")
		if conn.KindOf(err) != want {
			t.Errorf("status %d: %v, want %v", status, err, want)
		}
	}
}
