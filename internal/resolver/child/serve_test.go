package child_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/process"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/resolver/child"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/environment"
	"github.com/connfs/connfs/resolve/metastore"
)

// TestMain is the test binary's second role: a real child, which has no rights that a test
// needs.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "child" {
		err := child.Serve(os.Stdin, os.Stdout, func(
			context.Context, *resolver.ConfigureRequest, []byte,
		) (front, body []byte, err error) {
			return nil, nil, errors.New("not in this test")
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const password = "hunter2-Passw0rd"

var variables = []string{
	"AIRFLOW_CONN_WAREHOUSE=postgres://u:" + password + "@db.example:5432/dw",
	"AIRFLOW_CONN_SAME=postgres://u:" + password + "@db.example:5432/dw",
	`AIRFLOW_CONN_API={"conn_type": "http", "host": "h", "password": "it's ` + password + `"}`,
	"AIRFLOW_CONN_BROKEN={" + password,
	"AIRFLOW_CONN_HUGE=" + `{"conn_type": "http", "password": "` + password + strings.Repeat("x", 1<<20) + `"}`,
}

// served is a child that was given settings.
type served struct {
	t    *testing.T
	in   io.WriteCloser
	out  io.Reader
	next uint64
	seen bytes.Buffer // the meta of every answer
}

func serve(t *testing.T, key string, s *all.Settings) *served {
	t.Helper()
	blob, err := (&child.Settings{Path: *s}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	c := spawn(t)
	c.send(&resolver.Frame{Op: resolver.OpInit, Meta: []byte(key), Body: blob})
	return c
}

func spawn(t *testing.T) *served {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "child")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := harden.Start(cmd, harden.Confinement{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := process.Wait(cmd); err != nil {
			t.Errorf("the child ended with %v", err)
		}
	})
	return &served{t: t, in: in, out: out}
}

func (c *served) send(f *resolver.Frame) {
	c.t.Helper()
	if err := resolver.WriteFrame(c.in, f); err != nil {
		c.t.Fatal(err)
	}
}

// ask returns the answer to one frame.
func (c *served) ask(op resolver.Op, meta, body string) (resolver.Header, string, string) {
	c.t.Helper()
	c.next++
	c.send(&resolver.Frame{
		Op: op, ID: c.next, Timeout: 10 * time.Second, Meta: []byte(meta), Body: []byte(body),
	})
	h, m, err := resolver.ReadHeader(c.out)
	if err != nil {
		c.t.Fatal(err)
	}
	if h.ID != c.next {
		c.t.Fatalf("answer to %d, asked %d", h.ID, c.next)
	}
	b := make([]byte, h.Body)
	if _, err := io.ReadFull(c.out, b); err != nil {
		c.t.Fatal(err)
	}
	c.seen.Write(m)
	return h, string(m), string(b)
}

func onlyEnvironment() *all.Settings {
	return &all.Settings{
		Environment: environment.Settings{Variables: environment.Variables(variables)},
	}
}

func TestGetAnswersInEveryFormat(t *testing.T) {
	c := serve(t, "key", onlyEnvironment())
	if h, _, _ := c.ask(resolver.OpReady, "", ""); !h.OK || h.Digest != 0 {
		t.Errorf("not ready: %+v", h)
	}
	content := `{"conn_type":"postgres","description":null,"host":"db.example","login":"u","password":"` + password + `","schema":"dw","port":5432,"extra":null}`
	for format, want := range map[string]string{
		"json": content + "\n",
		"uri":  "postgres://u:" + password + "@db.example:5432/dw\n",
		"env":  "AIRFLOW_CONN_WAREHOUSE='" + content + "'\n",
	} {
		h, source, body := c.ask(resolver.OpGet, format, "warehouse")
		const origin = `{"backend":"environment","id":"d2FyZWhvdXNl"}`
		if !h.OK || source != origin || h.Digest == 0 {
			t.Errorf("%s: %+v from %q", format, h, source)
		}
		if diff := cmp.Diff(want, body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestTheDigestIsThatOfTheContentAndTheKey(t *testing.T) {
	digest := func(c *served, id string) uint64 {
		h, _, _ := c.ask(resolver.OpGet, "json", id)
		if !h.OK {
			t.Fatalf("%s: %v", id, h.Kind)
		}
		return h.Digest
	}
	a, again, other := serve(t, "one key", onlyEnvironment()),
		serve(t, "one key", onlyEnvironment()), serve(t, "another", onlyEnvironment())
	if digest(a, "warehouse") != digest(a, "same") ||
		digest(a, "same") != digest(again, "warehouse") {
		t.Error("equal content has different digests")
	}
	if digest(a, "warehouse") == digest(a, "api") {
		t.Error("different content has the same digest")
	}
	if digest(a, "warehouse") == digest(other, "warehouse") {
		t.Error("the digest does not depend on the key")
	}
}

func TestFailuresHaveTheirKindAndNoValue(t *testing.T) {
	c := serve(t, "key", onlyEnvironment())
	for id, want := range map[string]conn.Kind{
		"nothing": conn.Absent, "broken": conn.Invalid, "huge": conn.TooLarge,
	} {
		h, meta, body := c.ask(resolver.OpGet, "json", id)
		if h.OK || h.Kind != want || body != "" || h.Digest != 0 || meta == "" {
			t.Errorf("%s: %+v, %d bytes of body", id, h, len(body))
		}
	}
	if h, _, _ := c.ask(resolver.OpGet, "yaml", "warehouse"); h.OK {
		t.Error("an unknown format was answered")
	}
	for _, id := range []string{"warehouse", "api", "broken", "huge", "nothing"} {
		c.ask(resolver.OpExplain, "", id)
	}
	c.ask(resolver.OpList, "", "")
	if h, _, _ := c.ask(99, "", ""); h.OK || h.Kind != conn.Failed {
		t.Errorf("an unknown operation: %+v", h)
	}
	if strings.Contains(c.seen.String(), password) || strings.Contains(c.seen.String(), "hunter2") {
		t.Error("a value is in what goes to logs")
	}
}

func TestListNamesWhatThereIs(t *testing.T) {
	s := onlyEnvironment()
	s.Environment.Spellings = []string{"Warehouse"}
	c := serve(t, "key", s)
	_, meta, body := c.ask(resolver.OpList, "", "")
	got, err := resolver.DecodeListing([]byte(meta), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	want := &resolver.Listing{
		IDs: []string{"Warehouse", "api", "broken", "huge", "same"}, Complete: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAMissingMetastoreIsInTheListingAndTheExplanation(t *testing.T) {
	s := onlyEnvironment()
	s.Metastore = &metastore.Settings{URL: "sqlite:////nonexistent/airflow.db"}
	c := serve(t, "key", s)
	_, meta, body := c.ask(resolver.OpList, "", "")
	l, err := resolver.DecodeListing([]byte(meta), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if l.Complete || len(l.Failed) != 1 || l.Failed[0].Backend != "metastore" ||
		l.Failed[0].Reason == "" || len(l.IDs) != 5 {
		t.Errorf("%+v", l)
	}
	h, explained, _ := c.ask(resolver.OpExplain, "", "nothing")
	if !h.OK || !strings.Contains(explained, `"backend":"environment","result":"absent"`) ||
		!strings.Contains(explained, `"backend":"metastore","result":"unreachable"`) {
		t.Errorf("%+v %s", h, explained)
	}
	if h, _, _ := c.ask(resolver.OpGet, "json", "nothing"); h.OK || h.Kind != conn.Unreachable {
		t.Errorf("%+v: absent in one backend and unknown in the other is not absent", h)
	}
	if h, _, _ := c.ask(resolver.OpWarm, "", ""); h.OK {
		t.Error("warm, without a database")
	}
}

func TestCheckTriesEveryBackend(t *testing.T) {
	s := onlyEnvironment()
	s.Metastore = &metastore.Settings{URL: "sqlite:////nonexistent/airflow.db"}
	c := serve(t, "key", s)
	h, meta, _ := c.ask(resolver.OpCheck, "", "")
	var got []conn.Check
	if err := json.Unmarshal([]byte(meta), &got); err != nil || !h.OK || h.Digest != 0 {
		t.Fatalf("%+v %q: %v", h, meta, err)
	}
	var failure *conn.Error
	if len(got) != 2 || !errors.As(got[1].Err, &failure) || failure.Reason == "" {
		t.Fatalf("got %+v", got)
	}
	if failure.Kind != conn.Unreachable {
		t.Errorf("metastore: %v", failure)
	}
	got[1].Err = nil
	want := []conn.Check{{Name: "environment", Call: "list"}, {Name: "metastore", Call: "list"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

func TestSettingsThatAreUnusableAreAnAnswer(t *testing.T) {
	c := spawn(t)
	c.send(&resolver.Frame{Op: resolver.OpInit, Meta: []byte("key"), Body: []byte("nonsense")})
	for _, op := range []resolver.Op{resolver.OpReady, resolver.OpGet, resolver.OpList} {
		h, meta, _ := c.ask(op, "", "x")
		if h.OK || h.Kind != conn.Failed || !strings.Contains(meta, "settings") {
			t.Errorf("operation %d: %+v %s", op, h, meta)
		}
	}
	bad := serve(t, "key", &all.Settings{
		Metastore: &metastore.Settings{URL: "oracle://u:" + password + "@h/db"},
	})
	h, meta, _ := bad.ask(resolver.OpReady, "", "")
	if h.OK || strings.Contains(meta, password) {
		t.Errorf("%+v %s", h, meta)
	}
}

func TestARequestBeforeTheSettingsIsAnAnswer(t *testing.T) {
	c := spawn(t)
	for _, op := range []resolver.Op{
		resolver.OpReady, resolver.OpGet, resolver.OpList, resolver.OpExplain, resolver.OpWarm,
	} {
		if h, _, _ := c.ask(op, "json", "x"); h.OK || h.Kind != conn.Failed {
			t.Errorf("operation %d: %+v", op, h)
		}
	}
}

func TestServeEndsWithItsFront(t *testing.T) {
	none := func(context.Context, *resolver.ConfigureRequest, []byte) ([]byte, []byte, error) {
		return nil, nil, nil
	}
	if err := child.Serve(strings.NewReader(""), io.Discard, none); err != nil {
		t.Errorf("at the end of the pipe: %v", err)
	}
	if err := child.Serve(
		strings.NewReader("half a frame"), io.Discard, none,
	); err != io.ErrUnexpectedEOF {
		t.Errorf("in the middle of a frame: %v", err)
	}
}

func TestConfigureIsAnsweredWithBothParts(t *testing.T) {
	ask := func(configure func() ([]byte, []byte, error)) (resolver.Header, string, string) {
		var in, out bytes.Buffer
		resolver.WriteFrame(&in, &resolver.Frame{
			Op: resolver.OpConfigure, Meta: []byte(`{"ConfigFile":"/c.toml"}`),
			Body: []byte("A=1\x00"),
		})
		err := child.Serve(&in, &out, func(
			_ context.Context, req *resolver.ConfigureRequest, env []byte,
		) ([]byte, []byte, error) {
			if req.ConfigFile != "/c.toml" || string(env) != "A=1\x00" {
				t.Errorf("%+v %q", req, env)
			}
			return configure()
		})
		if err != nil {
			t.Fatal(err)
		}
		h, meta, err := resolver.ReadHeader(&out)
		if err != nil {
			t.Fatal(err)
		}
		return h, string(meta), out.String()
	}
	h, front, body := ask(func() ([]byte, []byte, error) {
		return []byte("front"), []byte("blob"), nil
	})
	if !h.OK || h.Digest != 0 || front != "front" || body != "blob" {
		t.Errorf("%+v %q %q", h, front, body)
	}
	h, meta, body := ask(func() ([]byte, []byte, error) {
		return []byte("front"), []byte("blob"), conn.Errorf(conn.Invalid,
			resolver.SourceConfiguration, "no")
	})
	if h.OK || h.Kind != conn.Invalid || strings.Contains(meta, "front") || body != "" {
		t.Errorf("%+v %q %q", h, meta, body)
	}
}

func TestAChildLogsInWithTheVariablesOfItsSettings(t *testing.T) {
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		io.WriteString(w, `{"Parameter": {"Name": "/airflow/connections/a", "Value": "postgres://u:`+password+`@h/db"}}`)
	}))
	defer server.Close()
	c := serve(t, "key", &all.Settings{
		Secrets: &backend.Secrets{Backend: "aws_ssm"},
		Login: backend.Masked([]string{
			"AWS_ENDPOINT_URL=" + server.URL, "AWS_REGION=eu-west-1",
			"AWS_ACCESS_KEY_ID=of-the-daemon", "AWS_SECRET_ACCESS_KEY=s",
		}, func(string) bool { return true }),
	})
	h, _, body := c.ask(resolver.OpGet, string(conn.FormatJSON), "a")
	if !h.OK || !strings.Contains(string(body), password) {
		t.Errorf("%+v", h)
	}
	if !strings.Contains(authorization, "Credential=of-the-daemon/") ||
		!strings.Contains(authorization, "/eu-west-1/ssm/") {
		t.Errorf("signed as %q", authorization)
	}
}
