package gcpsm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/gcpsm"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// Google's own service cannot be had for tests: everything here runs against a fake of
// its published interface.

// kwargsFor are the arguments for a fake, and further ones.
func kwargsFor(t testing.TB, f *servers.FakeSecretManager, more map[string]any) map[string]any {
	t.Helper()
	var key map[string]any
	if err := json.Unmarshal([]byte(f.Key), &key); err != nil {
		t.Fatal(err)
	}
	kwargs := map[string]any{"endpoint": f.URL, "gcp_keyfile_dict": key}
	for name, v := range more {
		kwargs[name] = v
	}
	return kwargs
}

func open(t testing.TB, f *servers.FakeSecretManager, more map[string]any) backend.Backend {
	t.Helper()
	return resolvetest.Open(t, gcpsm.Open, kwargsFor(t, f, more))
}

func TestAnswersAsAirflow(t *testing.T) {
	text, err := os.ReadFile("testdata/gcpsm.json")
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Expect any
		URI    string
		Absent bool
		Error  *struct{ Type, At string }
	}
	var data struct {
		Populate []servers.GoogleSecret
		Cases    []struct {
			answer
			Kind          string
			BackendKwargs map[string]any    `json:"backend_kwargs"`
			ID            string            `json:"conn_id"`
			MultiTeam     bool              `json:"multi_team"`
			Team          string            `json:"team"`
			Differs       map[string]answer `json:"differs"`
		}
	}
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	f := servers.StartFakeSecretManager(t)
	for _, s := range data.Populate {
		f.Put(s)
	}
	// Airflow says absent, where connfs says what Google says.
	denied := map[string]bool{"denied": true}
	count := 0
	for _, tc := range data.Cases {
		if tc.Kind != "connection" {
			continue
		}
		count++
		if _, ok := tc.BackendKwargs["project_id"]; ok && tc.BackendKwargs["project_id"] == nil {
			delete(tc.BackendKwargs, "project_id")
			tc.BackendKwargs["gcp_keyfile_dict"] = keyOfProject(t, f, "proj-cbdf")
		}
		name := fmt.Sprintf("%.40s %v %v %s", tc.ID, tc.BackendKwargs["connections_prefix"],
			tc.MultiTeam, tc.Team)
		t.Run(name, func(t *testing.T) {
			want := tc.answer
			if other, ok := tc.Differs["2.10.5"]; ok {
				want = other
			}
			kwargs, err := json.Marshal(kwargsFor(t, f, tc.BackendKwargs))
			if err != nil {
				t.Fatal(err)
			}
			b, err := backend.Open(&backend.Secrets{Kwargs: string(kwargs), MultiTeam: tc.MultiTeam,
				Team: tc.Team}, gcpsm.Open)
			if err != nil {
				if want.Error == nil || want.Error.At != "construction" {
					t.Error(err)
				}
				return
			}
			defer b.(interface{ Close() error }).Close()
			c, err := b.Connection(t.Context(), tc.ID)
			if err == nil {
				err = c.Validate()
			}
			switch {
			case denied[tc.ID]:
				if conn.KindOf(err) != conn.Denied {
					t.Errorf("%v, want denied", err)
				}
			case want.Absent:
				if err == nil || conn.KindOf(err) != conn.Absent {
					t.Errorf("%v, want absent", err)
				}
			case want.Error != nil:
				if err == nil || want.Error.At != "read" || conn.KindOf(err) != conn.Invalid {
					t.Errorf("%v, want invalid: Airflow raises %s at %s", err, want.Error.Type,
						want.Error.At)
				}
			case err != nil:
				t.Error(err)
			default:
				if diff := cmp.Diff(want.Expect, any(resolvetest.FieldsOf(c))); diff != "" {
					t.Errorf("(-Airflow +connfs):\n%s", diff)
				}
				if uri, _ := c.URI(); uri != want.URI {
					t.Errorf("URI %q, want %q", uri, want.URI)
				}
			}
		})
	}
	if count != 92 {
		t.Errorf("%d cases, want 92", count)
	}
}

// keyOfProject returns the fake's key as one of an account of another project.
func keyOfProject(t *testing.T, f *servers.FakeSecretManager, project string) map[string]any {
	t.Helper()
	key := kwargsFor(t, f, nil)["gcp_keyfile_dict"].(map[string]any)
	key["project_id"] = project
	return key
}

// putConnections puts connections where a backend without further arguments looks.
func putConnections(t testing.TB, f *servers.FakeSecretManager,
	connections map[string]*conn.Connection) {
	t.Helper()
	for id, c := range connections {
		text, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		f.Put(servers.GoogleSecret{
			Project: "login-project", Secret: "airflow-connections-" + id,
			Versions: []servers.GoogleVersion{{Data: text}},
		})
	}
}

func TestConforms(t *testing.T) {
	resolvetest.Run(t, resolvetest.Harness{
		New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
			f := servers.StartFakeSecretManager(t)
			putConnections(t, f, connections)
			f.Put(servers.GoogleSecret{Project: "login-project",
				Secret: "my-airflow-connections-x"})
			f.Put(servers.GoogleSecret{Project: "login-project", Secret: "airflow-variables-x"})
			return open(t, f, nil)
		},
		Unreachable: func(t *testing.T) backend.Backend {
			f := servers.StartFakeSecretManager(t)
			f.Down()
			return open(t, f, nil)
		},
		Holds: func(id string) bool {
			return !strings.ContainsAny(id, "./: é") && id != "bücher_接続"
		},
	})
}

// mysql is a connection of whatever content.
func mysql(host string) map[string]*conn.Connection {
	kind := "mysql"
	return map[string]*conn.Connection{"x": {Type: &kind, Host: &host}}
}

func TestErrorsHaveKinds(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	putConnections(t, f, mysql("h"))
	b := open(t, f, nil)
	repeat := func(code codes.Code) []error {
		return slices.Repeat([]error{status.Error(code, "s3cret")}, 3)
	}
	for _, tc := range []struct {
		errs []error
		want string
	}{
		{repeat(codes.NotFound), "absent"},
		{repeat(codes.InvalidArgument), "unreachable"},
		{repeat(codes.PermissionDenied), "denied"},
		{repeat(codes.Unauthenticated), "denied"},
		{repeat(codes.Unauthenticated)[:1], "h"},
		{repeat(codes.FailedPrecondition), "invalid"},
		{repeat(codes.Unavailable), "unreachable"},
		{repeat(codes.Unavailable)[:2], "h"},
		{repeat(codes.ResourceExhausted), "unreachable"},
		{repeat(codes.Internal), "unreachable"},
		{repeat(codes.Aborted), "unreachable"},
		{repeat(codes.Unknown), "unreachable"},
		{repeat(codes.DataLoss), "unreachable"},
		{repeat(codes.Unimplemented), "unreachable"},
		{repeat(codes.Canceled), "unreachable"},
		{repeat(codes.DeadlineExceeded), "timed out"},
		{nil, "h"},
	} {
		f.Fail(tc.errs...)
		c, err := b.Connection(t.Context(), "x")
		got := resolvetest.HostOf(c)
		if err != nil {
			got = conn.KindOf(err).String()
			if got == conn.Timeout.String() {
				got = "timed out"
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows what the server said: %v", err)
			}
		}
		if got != tc.want {
			t.Errorf("%v: %s, want %s (%v)", tc.errs, got, tc.want, err)
		}
	}
	f.Fail()
	f.Corrupt(true)
	if _, err := b.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Unreachable {
		t.Errorf("a payload that was damaged: %v, want unreachable", err)
	}
	f.Corrupt(false)
}

func TestChecksItsPermissions(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	putConnections(t, f, mysql("h"))
	b := open(t, f, nil).(backend.Checker)
	results := func() string {
		var all []string
		for _, c := range b.Check(t.Context()) {
			all = append(all, c.Call+" "+fmt.Sprint(c.Err == nil))
		}
		return strings.Join(all, ", ")
	}
	want := "secretmanager.versions.access true, secretmanager.secrets.list true"
	if got := results(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	f.Fail(status.Error(codes.PermissionDenied, ""))
	want = "secretmanager.versions.access false, secretmanager.secrets.list true"
	if got := results(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestListsEveryPage(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	var want []string
	for i := range 55 {
		id := fmt.Sprintf("c%02d", i)
		want = append(want, id)
		f.Put(servers.GoogleSecret{Project: "login-project", Secret: "airflow-connections-" + id})
	}
	f.Put(servers.GoogleSecret{Project: "login-project", Secret: "airflow-connections-"})
	f.Put(servers.GoogleSecret{Project: "another", Secret: "airflow-connections-other"})
	got, err := open(t, f, nil).(backend.Lister).List(t.Context())
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if n := f.Calls("ListSecrets"); n != 3 {
		t.Errorf("%d calls for three pages", n)
	}
	if n := f.Calls("AccessSecretVersion"); n > 0 {
		t.Errorf("%d secrets were read", n)
	}
}

func TestListsWhatATeamReads(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	for _, name := range []string{"a", "team_a--b", "team_b--c", "team_a--a"} {
		f.Put(servers.GoogleSecret{Project: "login-project", Secret: "airflow-connections-" + name})
	}
	kwargs, _ := json.Marshal(kwargsFor(t, f, nil))
	for team, want := range map[string][]string{"": {"a"}, "team_a": {"a", "b"}} {
		b, err := backend.Open(&backend.Secrets{Kwargs: string(kwargs), MultiTeam: true,
			Team: team}, gcpsm.Open)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.(backend.Lister).List(t.Context())
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", team, err, diff)
		}
		b.(interface{ Close() error }).Close()
	}
}

func TestLogsInOnceForAllChildren(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	putConnections(t, f, mysql("h"))
	first := open(t, f, nil)
	if got := first.(backend.Successor).Identity(); got != nil {
		t.Errorf("before any login the identity is %d bytes", len(got))
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := first.Connection(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	identity := first.(backend.Successor).Identity()
	for range 5 {
		next := open(t, f, nil)
		next.(backend.Successor).Adopt([]byte("{"))
		next.(backend.Successor).Adopt(identity)
		if err := next.(backend.Warmer).Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := next.Connection(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		identity = next.(backend.Successor).Identity()
	}
	if n := f.Logins(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	// Another account's login is not taken over.
	other := open(t, f, map[string]any{"gcp_scopes": "a, b"})
	other.(backend.Successor).Adopt(identity)
	if other.(backend.Successor).Identity() != nil {
		t.Error("the login of other settings was adopted")
	}

	f.Revoke()
	last := open(t, f, nil)
	last.(backend.Successor).Adopt(identity)
	for range 20 {
		wg.Go(func() {
			if _, err := last.Connection(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.Logins(); n != 2 {
		t.Errorf("%d logins after the token was revoked, want 2", n)
	}
}

func TestLoginsFail(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	putConnections(t, f, mysql("h"))
	for code, want := range map[int]conn.Kind{400: conn.Denied, 401: conn.Denied, 403: conn.Denied,
		429: conn.Unreachable, 503: conn.Unreachable} {
		f.RefuseLogins(code)
		_, err := open(t, f, nil).Connection(t.Context(), "x")
		if err == nil || conn.KindOf(err) != want {
			t.Errorf("%d: %v, want %v", code, err, want)
		}
	}
	f.RefuseLogins(0)
	dir := t.TempDir()
	resolvetest.ReplaceFile(t, filepath.Join(dir, "key.json"), f.Key)
	resolvetest.ReplaceFile(t, filepath.Join(dir, "bad.json"), `{"type": "service_account", "private_key": "s3cret"}`)
	resolvetest.ReplaceFile(t, filepath.Join(dir, "user.json"), `{"type": "authorized_user"}`)
	for name, tc := range map[string]struct {
		kwargs map[string]any
		want   string // a kind, or the host
	}{
		"a key file": {map[string]any{"gcp_key_path": dir + "/key.json"}, "h"},
		"a configuration file": {map[string]any{"gcp_credential_config_file": dir + "/key.json"},
			"h"},
		"its content":        {map[string]any{"gcp_credential_config_file": f.Key}, "h"},
		"no file":            {map[string]any{"gcp_key_path": dir + "/none.json"}, "denied"},
		"no key":             {map[string]any{"gcp_key_path": dir + "/bad.json"}, "denied"},
		"no service account": {map[string]any{"gcp_key_path": dir + "/user.json"}, "denied"},
		"not JSON":           {map[string]any{"gcp_credential_config_file": "{"}, "denied"},
	} {
		tc.kwargs["endpoint"] = f.URL
		c, err := resolvetest.Open(t, gcpsm.Open, tc.kwargs).Connection(t.Context(), "x")
		got := resolvetest.HostOf(c)
		if err != nil {
			got = conn.KindOf(err).String()
		}
		if got != tc.want || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %s, want %s (%v)", name, got, tc.want, err)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", dir+"/key.json")
	b := resolvetest.Open(t, gcpsm.Open, map[string]any{"endpoint": f.URL})
	if _, err := b.Connection(t.Context(), "x"); err != nil {
		t.Errorf("default credentials: %v", err)
	}
	t.Setenv("GOOGLE_CLOUD_PROJECT", "../other")
	b = resolvetest.Open(t, gcpsm.Open, map[string]any{"endpoint": f.URL})
	if _, err := b.Connection(t.Context(), "x"); conn.KindOf(err) != conn.Denied {
		t.Errorf("a project that is a path: %v, want denied", err)
	}
}

func TestArguments(t *testing.T) {
	for kwargs, want := range map[string]string{
		`{"connections_prefix": "a/b"}`: "connections_prefix: only letters",
		`{"sep": "."}`:                  "sep: only letters",
		`{"gcp_key_path": "/key.p12"}`:  "gcp_key_path: Airflow takes only",
		`{"gcp_key_path": "/k.json", "gcp_keyfile_dict": {"a": 1}}`: "only one of gcp_key_path",
		`{"impersonation_chain": ["a@b.c", 5]}`:                     "impersonation_chain: expected a service account",
		`{"impersonation_chain": "account"}`:                        "impersonation_chain: a service account is named by",
		`{"endpoint": "http://10.0.0.1:80"}`:                        "endpoint: without TLS only a loopback address will do",
		`{"endpoint": "http://localhost:80"}`:                       "endpoint: without TLS only a loopback address will do",
		`{"endpoint": "https://a"}`:                                 "endpoint: expected HOST:PORT",
		`{"endpoint": "a"}`:                                         "endpoint: expected HOST:PORT",
		`{"connections_lookup_pattern": "a"}`: "connections_lookup_pattern: connfs does not know this " +
			"argument",
		`{"connections_prefix": null, "sep": "/", "config_prefix": "/"}`: "",
		`{"endpoint": "secretmanager.private.example:443"}`:              "",
		`{"impersonation_chain": ["a@b.iam.gserviceaccount.com"]}`:       "",
	} {
		_, err := backend.Open(&backend.Secrets{Kwargs: kwargs}, gcpsm.Open)
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", kwargs, err, want)
		}
	}
}

func TestHoldsSealedConnections(t *testing.T) {
	const sealed = `{"connfs_sealed": 1, "data": "AAAA"}`
	f := servers.StartFakeSecretManager(t)
	f.Put(servers.GoogleSecret{Project: "login-project", Secret: "airflow-connections-x",
		Versions: []servers.GoogleVersion{{Data: []byte(" " + sealed + "\n")}}})
	c, err := open(t, f, nil).Connection(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if extra, _ := c.Extra.Reveal(); !c.Sealed() || extra != sealed {
		t.Error("the extra is not the sealed form")
	}
}

func TestIsThereAgainSoon(t *testing.T) {
	f := servers.StartFakeSecretManager(t)
	putConnections(t, f, mysql("h"))
	leaks := goleak.IgnoreCurrent()
	b, err := backend.Open(&backend.Secrets{Kwargs: resolvetest.Kwargs(t, kwargsFor(t, f, nil))},
		gcpsm.Open)
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := b.Connection(ctx, "x")
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.Down()
		for range 3 {
			if err := get(); conn.KindOf(err) != conn.Unreachable {
				t.Errorf("while it is down: %v, want unreachable", err)
			}
		}
		f.Up()
		if err := resolvetest.Within(resolvetest.Patience, get); err != nil {
			t.Errorf("after its return: %v", err)
		}
	}

	// One that accepts connections and says nothing.
	f.Down()
	l, err := net.Listen("tcp", strings.TrimPrefix(f.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	if _, err := b.Connection(ctx, "x"); conn.KindOf(err) != conn.Timeout {
		t.Errorf("a black hole: %v, want a timeout", err)
	}
	cancel()
	l.Close()
	f.Up()
	if err := resolvetest.Within(resolvetest.Patience, get); err != nil {
		t.Errorf("after its return: %v", err)
	}
	f.Down()
	b.(interface{ Close() error }).Close()
	goleak.VerifyNone(t, leaks)
}
