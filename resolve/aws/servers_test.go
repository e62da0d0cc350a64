//go:build integration

package aws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/aws"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// awsService is one of the two backends on AWS, as the tests see it.
type awsService struct {
	name, class string
	open        backend.Opener
	prefix      string                         // Airflow's default, with the separator
	put         func(name, text string) string // the request that keeps a text under a name
	target      string                         // its target
	read        string                         // the target of a look-up
	pages       int64                          // of 230 connections
}

var services = []awsService{
	{
		name: "aws_ssm",
		class: "airflow.providers.amazon.aws.secrets." +
			"systems_manager.SystemsManagerParameterStoreBackend",
		open:   aws.OpenSSM,
		prefix: "/airflow/connections/",
		target: "AmazonSSM.PutParameter",
		read:   "AmazonSSM.GetParameter",
		pages:  24, // of 10, whatever moto is asked for, and an empty one
		put: func(name, text string) string {
			return jsonOf(map[string]any{"Name": name, "Value": text, "Type": "SecureString",
				"Overwrite": true, "Tier": "Advanced"})
		},
	},
	{
		name:   "aws_secrets_manager",
		class:  "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
		open:   aws.OpenSecretsManager,
		prefix: "airflow/connections/",
		target: "secretsmanager.CreateSecret",
		read:   "secretsmanager.GetSecretValue",
		pages:  3,
		put: func(name, text string) string {
			return jsonOf(map[string]any{"Name": name, "SecretString": text})
		},
	},
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// setEnvironment is the environment in which Airflow answered the cases.
func setEnvironment(t testing.TB, url string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "") // for its value back at the end
			os.Unsetenv(name)
		}
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "test",
		"AWS_SECRET_ACCESS_KEY": "test",
	} {
		t.Setenv(name, value)
	}
}

// open opens a backend, which t closes.
func open(t testing.TB, service awsService, s backend.Secrets, kwargs map[string]any) (
	backend.Backend, error) {
	t.Helper()
	s.Kwargs = jsonOf(kwargs)
	b, err := backend.Open(&s, service.open)
	if err == nil {
		t.Cleanup(func() { b.(interface{ Close() error }).Close() })
	}
	return b, err
}

// valueOfConnection is the text under which the tests keep a connection: its JSON form.
func valueOfConnection(t testing.TB, id string, c *conn.Connection) string {
	t.Helper()
	b, err := conn.Render(id, c, conn.FormatJSON)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestConformance(t *testing.T) {
	m := servers.StartMoto(t)
	setEnvironment(t, m.URL)
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			resolvetest.Run(t, resolvetest.Harness{
				New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
					m.Reset()
					for id, c := range connections {
						m.Populate(service.target,
							service.put(service.prefix+id, valueOfConnection(t, id, c)))
					}
					return resolvetest.Open(t, service.open, nil)
				},
				Unreachable: func(t *testing.T) backend.Backend {
					return resolvetest.Open(t, service.open,
						map[string]any{"endpoint_url": "http://127.0.0.1:1"})
				},
				NoDescription: service.name == "aws_secrets_manager",
				Holds: func(id string) bool {
					return service.name != "aws_ssm" || !strings.Contains(id, ":")
				},
			})
		})
	}
}

// Answers of connfs that are not Airflow's, and why.
var differences = []struct {
	why   string
	found func(service string, kwargs map[string]any, id string) bool
	want  string // "construction", or a kind
}{
	{"an argument that connfs does not know is an error that names it",
		func(_ string, kw map[string]any, _ string) bool { return kw["unknown_kwarg"] != nil },
		"construction"},
	{"a pattern that is wrong is known at the start",
		func(_ string, kw map[string]any, _ string) bool {
			return kw["connections_lookup_pattern"] == "["
		}, "construction"},
	{"look-around and word boundaries in a pattern are refused by name",
		func(_ string, kw map[string]any, _ string) bool {
			pattern, _ := kw["connections_lookup_pattern"].(string)
			return slices.Contains([]string{"(?!team_b)team", "team_(?=a)", `\bteam`}, pattern)
		}, "construction"},
	{"words for a field that there is not are known at the start",
		func(_ string, kw map[string]any, _ string) bool {
			words, _ := kw["extra_conn_words"].(map[string]any)
			return words["nosuch"] != nil
		}, "construction"},
	{"x:1 is another name of x, and is not sent",
		func(service string, _ map[string]any, id string) bool {
			return service == "aws_ssm" && strings.Contains(id, ":")
		}, "absent"},
	{"an ARN is another name of a secret, and is not sent",
		func(_ string, _ map[string]any, id string) bool { return strings.HasPrefix(id, "arn:") },
		"absent"},
}

func TestAnswersAsAirflow(t *testing.T) {
	m := servers.StartMoto(t)
	setEnvironment(t, m.URL)
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			text, err := os.ReadFile(map[string]string{"aws_ssm": "testdata/ssm.json",
				"aws_secrets_manager": "testdata/secretsmanager.json"}[service.name])
			if err != nil {
				t.Fatal(err)
			}
			type answer struct {
				Expect any // of a variable: a string
				URI    string
				Absent bool
				Error  *struct{ Type, At string }
			}
			var data struct {
				Populate []struct {
					Target string
					Body   json.RawMessage
				}
				Cases []struct {
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
			m.Reset()
			for _, p := range data.Populate {
				m.Populate(p.Target, string(p.Body))
			}
			count, differ := 0, 0
			for _, tc := range data.Cases {
				if tc.Kind != "connection" {
					continue // a variable, of which connfs serves none
				}
				count++
				name := fmt.Sprintf("%.60s %s %v %s", tc.ID, jsonOf(tc.BackendKwargs), tc.MultiTeam,
					tc.Team)
				want := tc.answer
				if other, ok := tc.Differs["2.10.5"]; ok {
					want = other
				}
				got := ""
				b, err := open(t, service, backend.Secrets{MultiTeam: tc.MultiTeam, Team: tc.Team},
					tc.BackendKwargs)
				var c *conn.Connection
				if err != nil {
					got = "construction"
				} else if c, err = b.Connection(t.Context(), tc.ID); err == nil {
					err = c.Validate()
				}
				switch {
				case got != "":
				case err != nil:
					got = conn.KindOf(err).String()
				default:
					got = "found"
				}
				i := slices.IndexFunc(differences, func(d struct {
					why   string
					found func(service string, kwargs map[string]any, id string) bool
					want  string
				}) bool {
					return d.found(service.name, tc.BackendKwargs, tc.ID)
				})
				switch {
				case i >= 0:
					differ++
					if got != differences[i].want {
						t.Errorf("%s: %s %v, want %s: %s", name, got, err, differences[i].want,
							differences[i].why)
					}
				case want.Absent:
					if got != "absent" {
						t.Errorf("%s: %s %v, want absent", name, got, err)
					}
				case want.Error != nil:
					if got != "invalid" || want.Error.At != "read" {
						t.Errorf("%s: %s %v, Airflow raises %s at %s", name, got, err,
							want.Error.Type, want.Error.At)
					}
				case got != "found":
					t.Errorf("%s: %v", name, err)
				default:
					if diff := cmp.Diff(want.Expect, any(resolvetest.FieldsOf(c))); diff != "" {
						t.Errorf("%s (-Airflow +connfs):\n%s", name, diff)
					}
					if uri, _ := c.URI(); uri != want.URI {
						t.Errorf("%s: URI %q, want %q", name, uri, want.URI)
					}
				}
			}
			t.Logf("%d cases, %d of them with a difference that is meant", count, differ)
			if count < 170 {
				t.Errorf("only %d cases", count)
			}
		})
	}
}

func TestTeamsInListings(t *testing.T) {
	m := servers.StartMoto(t)
	setEnvironment(t, m.URL)
	for _, service := range services {
		m.Reset()
		for _, id := range []string{"plain", "team_a--own", "team_b--theirs", "a/b",
			"team_a--plain", "sub/team_a--x"} {
			m.Populate(service.target, service.put(service.prefix+id, "http://h"))
		}
		m.Populate(service.target, service.put("/elsewhere/x", "http://h"))
		m.Populate(service.target,
			service.put(strings.TrimSuffix(service.prefix, "/")+"x/y", "http://h"))
		for _, tc := range []struct {
			settings backend.Secrets
			pattern  string
			want     []string
		}{
			{backend.Secrets{}, "", []string{"a/b", "plain", "sub/team_a--x", "team_a--own",
				"team_a--plain", "team_b--theirs"}},
			{backend.Secrets{}, "[^t]|team_a",
				[]string{"a/b", "plain", "sub/team_a--x", "team_a--own", "team_a--plain"}},
			{backend.Secrets{MultiTeam: true}, "", []string{"a/b", "plain"}},
			{backend.Secrets{MultiTeam: true, Team: "team_a"}, "", []string{"a/b", "own", "plain"}},
		} {
			b, err := open(t, service, tc.settings,
				map[string]any{"connections_lookup_pattern": tc.pattern})
			if err != nil {
				t.Fatal(err)
			}
			got, err := b.(backend.Lister).List(t.Context())
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("%s %+v: %v (-want +got):\n%s", service.name, tc.settings, err, diff)
			}
		}
	}
}

func TestListsManyPages(t *testing.T) {
	m := servers.StartMoto(t)
	setEnvironment(t, m.URL)
	for _, service := range services {
		m.Reset()
		var want []string
		for i := range 230 {
			id := fmt.Sprintf("c%04d", i)
			want = append(want, id)
			m.Populate(service.target, service.put(service.prefix+id, "http://h"))
		}
		var pages atomic.Int64
		got, err := resolvetest.Open(t, service.open, nil).(backend.Lister).List(
			backend.WithCalls(t.Context(), &pages))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", service.name, err, diff)
		}
		if n := pages.Load(); n != service.pages {
			t.Errorf("%s: %d calls were counted, want %d", service.name, n, service.pages)
		}
	}
}

func TestFaults(t *testing.T) {
	m := servers.StartMoto(t)
	p := servers.StartFaultProxy(t, m.URL)
	setEnvironment(t, p.URL)
	for _, service := range services {
		m.Reset()
		m.Populate(service.target,
			service.put(service.prefix+"a", "http://u:"+strings.Repeat("password", 300)+"@h"))
		for _, tc := range []struct {
			name  string
			fault servers.Fault
			want  conn.Kind // Failed: found
		}{
			{"latency", servers.Fault{Delay: 300 * time.Millisecond}, conn.Failed},
			{"black hole", servers.Fault{Hang: true}, conn.Timeout},
			{"reset", servers.Fault{Reset: true}, conn.Unreachable},
			{"reset once", servers.Fault{Reset: true, Times: 1}, conn.Failed},
			{"cut", servers.Fault{Cut: 300}, conn.Unreachable},
			{"cut once", servers.Fault{Cut: 300, Times: 1}, conn.Failed},
			{"slow drip", servers.Fault{Drip: 50 * time.Microsecond}, conn.Failed},
			{"a drip too slow", servers.Fault{Drip: 10 * time.Millisecond}, conn.Timeout},
			{"throttled", servers.Throttled(), conn.Unreachable},
			{"throttled once",
				func() servers.Fault { f := servers.Throttled(); f.Times = 1; return f }(),
				conn.Failed},
			{"5xx", servers.Fault{Status: 503, Body: "busy"}, conn.Unreachable},
			{"5xx once", servers.Fault{Status: 500, Body: `{"__type": "InternalServerError"}`, Times: 1}, conn.Failed},
			{"a proxy's page", servers.Fault{Status: 200, Body: "<html>"}, conn.Unreachable},
		} {
			t.Run(service.name+" "+tc.name, func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				b, err := open(t, service, backend.Secrets{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer b.(interface{ Close() error }).Close()
				defer p.Heal()
				p.Inject(tc.fault)
				deadline := 8 * time.Second // what is throttled takes all of it
				if tc.want == conn.Failed { // an answer that comes, on a busy machine too
					deadline = 30 * time.Second
				}
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), deadline)
						defer cancel()
						start := time.Now()
						_, err := b.Connection(ctx, "a")
						if tc.want == conn.Failed && err != nil && tc.fault.Times == 0 ||
							tc.want != conn.Failed && (err == nil || conn.KindOf(err) != tc.want) {
							t.Errorf("%v, want %v", err, tc.want)
						}
						if err != nil && strings.Contains(err.Error(), "password") {
							t.Error("the error holds a value")
						}
						if took := time.Since(start); took > deadline+resolvetest.Patience {
							t.Errorf("answered after %v", took)
						}
					})
				}
				wg.Wait()
				p.Heal()
				// The server is back: so is the connection, within a second.
				recovered := time.Now()
				for {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := b.Connection(ctx, "a")
					cancel()
					if err == nil {
						break
					}
					// This takes a second, and more on a machine with other work.
					if time.Since(recovered) > 3*time.Second {
						t.Fatalf("not back after %v: %v", time.Since(recovered), err)
					}
				}
			})
		}
	}
}

func TestOutage(t *testing.T) {
	m := servers.StartMoto(t)
	p := servers.StartFaultProxy(t, m.URL)
	setEnvironment(t, p.URL)
	for _, service := range services {
		m.Populate(service.target, service.put(service.prefix+"a", "http://h"))
		b := resolvetest.Open(t, service.open, nil)
		if _, err := b.Connection(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		p.Down()
		if _, err := b.Connection(t.Context(), "a"); conn.KindOf(err) != conn.Unreachable {
			t.Errorf("%s: %v, want unreachable", service.name, err)
		}
		p.Up()
		if _, err := b.Connection(t.Context(), "a"); err != nil {
			t.Errorf("%s: back: %v", service.name, err)
		}
	}
}

func TestPermissions(t *testing.T) {
	m := servers.StartMoto(t)
	setEnvironment(t, m.URL)
	for _, service := range services {
		m.Reset()
		m.Populate(service.target, service.put(service.prefix+"a", "http://h"))
		check := func() map[string]conn.Kind {
			t.Helper()
			kinds := make(map[string]conn.Kind)
			b := resolvetest.Open(t, service.open, nil).(backend.Checker)
			for _, c := range b.Check(t.Context()) {
				kinds[c.Call] = conn.Absent // stands for none here
				if c.Err != nil {
					kinds[c.Call] = conn.KindOf(c.Err)
				}
			}
			return kinds
		}
		got := slices.Collect(maps.Values(check()))
		if !slices.Equal(got, []conn.Kind{conn.Absent, conn.Absent}) {
			t.Errorf("%s: %v", service.name, check())
		}
		m.CheckAuth(true)
		b := resolvetest.Open(t, service.open, nil)
		if _, err := b.Connection(t.Context(), "a"); conn.KindOf(err) != conn.Denied {
			t.Errorf("%s: a key that is not known: %v, want denied", service.name, err)
		}
		if _, err := b.(backend.Lister).List(t.Context()); conn.KindOf(err) != conn.Denied {
			t.Errorf("%s: list: %v, want denied", service.name, err)
		}
		for call, kind := range check() {
			if kind != conn.Denied {
				t.Errorf("%s: %s: %v, want denied", service.name, call, kind)
			}
		}
	}
}

// One assumed role serves all generations of children: the credentials go from one to
// the next.
func TestOneLoginForAllGenerations(t *testing.T) {
	m := servers.StartMoto(t)
	p := servers.StartFaultProxy(t, m.URL)
	setEnvironment(t, p.URL)
	for _, service := range services {
		m.Populate(service.target, service.put(service.prefix+"a", "http://h"))
		p.Calls()
		var identity []byte
		const generations = 10
		for range generations {
			b := resolvetest.Open(t, service.open, map[string]any{
				"role_arn":           "arn:aws:iam::123456789012:role/connfs",
				"assume_role_kwargs": map[string]any{"ExternalId": "x"},
			})
			b.(backend.Successor).Adopt(identity)
			if err := b.(backend.Warmer).Warm(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Connection(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			identity = b.(backend.Successor).Identity()
		}
		calls := p.Calls()
		if calls["AssumeRole"] != 1 || calls[service.read] != generations {
			t.Errorf("%s: %v, want one AssumeRole and %d look-ups", service.name, calls,
				generations)
		}
	}
}

func TestSSMReadsTogether(t *testing.T) {
	m := servers.StartMoto(t)
	p := servers.StartFaultProxy(t, m.URL)
	setEnvironment(t, p.URL)
	ssm := services[0]
	const n = 100
	for i := range n {
		m.Populate(ssm.target,
			ssm.put(fmt.Sprint(ssm.prefix, "c", i), fmt.Sprintf("http://u:p%d@h", i)))
	}
	crowd := func(t *testing.T, b backend.Backend) map[string]int {
		t.Helper()
		p.Calls()
		var wg sync.WaitGroup
		for i := range n + 3 { // the last ones are not there, or are names that nothing has
			wg.Go(func() {
				id := fmt.Sprint("c", i)
				if i == n+2 {
					id = "c ü#"
				}
				c, err := b.Connection(t.Context(), id)
				switch {
				case i >= n && (err == nil || conn.KindOf(err) != conn.Absent):
					t.Errorf("%s: %v, want absent", id, err)
				case i >= n:
				case err != nil:
					t.Errorf("%s: %v", id, err)
				default:
					if text, _ := c.Password.Reveal(); text != fmt.Sprint("p", i) {
						t.Errorf("%s has the password of another", id)
					}
				}
			})
		}
		wg.Wait()
		return p.Calls()
	}
	b := resolvetest.Open(t, aws.OpenSSM, nil)
	p.Inject(servers.Fault{Delay: 50 * time.Millisecond})
	if calls := crowd(t, b); calls["AmazonSSM.GetParameters"] > 15 ||
		calls["AmazonSSM.GetParameter"] > 5 {
		t.Errorf("%v", calls)
	}
	p.Heal()
	if _, err := b.Connection(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	if calls := p.Calls(); calls["AmazonSSM.GetParameter"] != 1 || len(calls) != 1 {
		t.Errorf("one look-up by itself: %v", calls)
	}
	// A policy that grants ssm:GetParameter alone.
	p.Inject(servers.Fault{Call: "AmazonSSM.GetParameters", Status: 400, Body: `{"__type": "AccessDeniedException"}`})
	if calls := crowd(t, b); calls["AmazonSSM.GetParameter"] < n {
		t.Errorf("%v", calls)
	}
	if calls := crowd(t, b); calls["AmazonSSM.GetParameters"] > 0 {
		t.Errorf("asked again for what is refused: %v", calls)
	}
	p.Heal()
	// Callers who give up end the call that nobody waits for.
	b = resolvetest.Open(t, aws.OpenSSM, nil)
	p.Inject(servers.Fault{Hang: true})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 25 {
		wg.Go(func() {
			if _, err := b.Connection(ctx, fmt.Sprint("c", i)); conn.KindOf(err) != conn.Timeout {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p.Heal()
	b.(interface{ Close() error }).Close()
}

func TestArgumentsThatCannotBeHonoured(t *testing.T) {
	for _, service := range services {
		for kwargs, want := range map[string]string{
			`{"nonsense": "SECRET"}`:        "nonsense: ",
			`{"api_version": "2000-01-01"}`: "api_version: ",
			`{"use_ssl": false}`:            "use_ssl: ",
			`{"connections_prefix": 5}`:     "connections_prefix: ",
			`{"connections_prefix": "arn:aws:ssm:eu-west-1:1:parameter/SECRET"}`: "connections_prefix: an ARN",
			`{"connections_prefix": "/a b/SECRET"}`:                              "connections_prefix: AWS takes no name",
			`{"connections_lookup_pattern": "("}`:                                "connections_lookup_pattern: ",
			`{"role_arn": "r", "assume_role_method": "assume_role_with_saml"}`:   "assume_role_method: ",
			`{"aws_access_key_id": "SECRET"}`:                                    "aws_access_key_id: ",
		} {
			_, err := backend.Open(&backend.Secrets{Kwargs: kwargs}, service.open)
			if err == nil || !strings.HasPrefix(err.Error(), want) ||
				strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%s %s: %v", service.name, kwargs, err)
			}
		}
	}
}
