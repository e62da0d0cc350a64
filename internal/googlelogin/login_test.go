package googlelogin_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/googlelogin"
)

func TestMain(m *testing.M) {
	// The machine's own logins are not the tests'.
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "GOOGLE_") {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// server gives tokens that are numbered, or answers with a status.
type server struct {
	*httptest.Server
	logins atomic.Int32
	status atomic.Int32 // 0: a token
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := int(s.status.Load())
		switch {
		case status != 0 && !strings.HasPrefix(r.URL.Path, "/source"):
			w.WriteHeader(status)
			io.WriteString(w, `{"error": "SECRET"}`)
		case strings.HasPrefix(r.URL.Path, "/become"):
			n := s.logins.Add(1)
			fmt.Fprintf(w, `{"accessToken": "become-%d", "expireTime": %q}`, n,
				time.Now().Add(time.Hour).Format(time.RFC3339))
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token": "token-%d", "expires_in": 3600}`, s.logins.Add(1))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// user returns the credentials of a user, for whom the server gives tokens.
func (s *server) user(tag string) googlelogin.Credentials {
	return credentials(tag, map[string]any{
		"type": "authorized_user", "client_id": "c", "client_secret": "SECRET",
		"refresh_token": "SECRET", "token_uri": s.URL, "quota_project_id": "billed",
	})
}

func credentials(tag string, file map[string]any) googlelogin.Credentials {
	return googlelogin.Credentials{
		Tag: tag, Read: func() ([]byte, error) { return json.Marshal(file) },
	}
}

// call makes one call that does nothing, and returns the header that carried its token.
func call(l *googlelogin.Login) (authorization string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = l.Call(ctx, nil, func(ctx context.Context, _ *googlelogin.Token) error {
		header, _ := metadata.FromOutgoingContext(ctx)
		authorization = strings.Join(header["authorization"], ",")
		if got := header["x-goog-user-project"]; got != nil {
			authorization += " for " + strings.Join(got, ",")
		}
		return nil
	})
	return authorization, err
}

func TestOneLoginServesManyCallersAndProcesses(t *testing.T) {
	s := serve(t)
	l := googlelogin.New(s.user("a"))
	if l.Identity() != nil {
		t.Error("there is an identity before there is a login")
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := call(l); err != nil || got != "Bearer token-1 for billed" {
				t.Errorf("%q %v", got, err)
			}
		})
	}
	wg.Wait()
	for range 5 {
		next := googlelogin.New(s.user("a"))
		next.Adopt([]byte("nonsense"))
		next.Adopt(l.Identity())
		if got, err := call(next); err != nil || got != "Bearer token-1 for billed" {
			t.Errorf("the next process: %q %v", got, err)
		}
		l = next
	}
	other := googlelogin.New(s.user("b"))
	other.Adopt(l.Identity())
	if got, err := call(other); err != nil || got != "Bearer token-2 for billed" {
		t.Errorf("a process that logs in otherwise: %q %v", got, err)
	}
	if n := s.logins.Load(); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

func TestCallsAreMadeAgainWhereThatMayHelp(t *testing.T) {
	s := serve(t)
	again := []codes.Code{codes.Unavailable}
	for _, c := range []struct {
		name    string
		answers []codes.Code // of one call after the other; OK after the last
		want    codes.Code
		calls   int
		logins  int32
	}{
		{"a success", nil, codes.OK, 1, 1},
		{"unavailable once", []codes.Code{codes.Unavailable}, codes.OK, 2, 1},
		{
			"unavailable for long",
			[]codes.Code{
				codes.Unavailable, codes.Unavailable, codes.Unavailable, codes.Unavailable,
			},
			codes.Unavailable, 3, 1,
		},
		{"another failure", []codes.Code{codes.Internal}, codes.Internal, 1, 1},
		{"a token that was revoked", []codes.Code{codes.Unauthenticated}, codes.OK, 2, 2},
		{
			"a token that is never taken",
			[]codes.Code{codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
			codes.Unauthenticated, 2, 2,
		},
	} {
		s.logins.Store(0)
		l, calls := googlelogin.New(s.user("a")), 0
		err := l.Call(t.Context(), again, func(context.Context, *googlelogin.Token) error {
			if calls++; calls > len(c.answers) {
				return nil
			}
			return status.Error(c.answers[calls-1], "")
		})
		got := []int{int(status.Code(err)), calls, int(s.logins.Load())}
		if diff := cmp.Diff([]int{int(c.want), c.calls, int(c.logins)}, got); diff != "" {
			t.Errorf("%s: code, calls, logins (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestALoginOutlivesTheCallerThatGivesUp(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t)
	user := s.user("a")
	l := googlelogin.New(googlelogin.Credentials{Read: func() ([]byte, error) {
		close(began)
		<-goOn
		return user.Read()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	nothing := func(context.Context, *googlelogin.Token) error { return nil }
	go func() { gaveUp <- l.Call(ctx, nil, nothing) }()
	<-began
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(goOn)
	if err := l.Call(t.Context(), nil, nothing); err != nil || s.logins.Load() != 1 {
		t.Errorf("the next caller: %v, after %d logins", err, s.logins.Load())
	}
}

// What logs in goes nowhere but to where the credentials say.
func TestALoginFollowsNoRedirect(t *testing.T) {
	elsewhere := serve(t)
	redirecting := httptest.NewServer(http.RedirectHandler(elsewhere.URL,
		http.StatusTemporaryRedirect))
	defer redirecting.Close()
	_, err := call(googlelogin.New((&server{Server: redirecting}).user("")))
	if err == nil || elsewhere.logins.Load() != 0 {
		t.Errorf("%d logins elsewhere: %v", elsewhere.logins.Load(), err)
	}
}

func TestFailuresOfLogins(t *testing.T) {
	s := serve(t)
	become := credentials("", map[string]any{
		"type":                              "impersonated_service_account",
		"service_account_impersonation_url": s.URL + "/become",
		"source_credentials": map[string]any{
			"type": "authorized_user", "client_id": "c", "client_secret": "SECRET",
			"refresh_token": "SECRET", "token_uri": s.URL + "/source",
		},
	})
	if got, err := call(googlelogin.New(become)); err != nil || got != "Bearer become-2" {
		t.Errorf("an account that another one becomes: %q %v", got, err)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	refused := &server{Server: gone}
	unreadable := conn.Errorf(conn.Denied, "", "the file cannot be read")
	for _, c := range []struct {
		name        string
		status      int
		credentials googlelogin.Credentials
		kind        conn.Kind
		says        string
	}{
		{"refused", 400, s.user(""), conn.Denied, "refuses the login"},
		{"forbidden", 403, s.user(""), conn.Denied, "refuses the login"},
		{"throttled", 429, s.user(""), conn.Unreachable, "login service failed"},
		{"down", 503, s.user(""), conn.Unreachable, "login service failed"},
		{"not to become", 403, become, conn.Denied, "refuses the login"},
		{"nobody becomes anybody", 503, become, conn.Unreachable, "login service failed"},
		{
			"nobody listens", 0, refused.user(""), conn.Unreachable,
			"logging in: the connection is refused",
		},
		{
			"no type", 0, credentials("", map[string]any{"a": 1}), conn.Denied,
			"not JSON with a type",
		},
		{
			"an unknown type", 0, credentials("", map[string]any{"type": "SECRET"}),
			conn.Denied, "cannot be used",
		},
		{
			"no file", 0,
			googlelogin.Credentials{Read: func() ([]byte, error) { return nil, unreadable }},
			conn.Denied, "the file cannot be read",
		},
	} {
		s.status.Store(int32(c.status))
		_, err := call(googlelogin.New(c.credentials))
		if err == nil || conn.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) ||
			strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v, want %v: %s", c.name, err, c.kind, c.says)
		}
	}
}

func TestAServiceAccountMaySignItsTokensItself(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t)
	c := credentials("", map[string]any{
		"type": "service_account", "client_email": "a@p.example", "project_id": "p",
		"token_uri":   s.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if got, err := call(googlelogin.New(c)); err != nil || got != "Bearer token-1" {
		t.Errorf("%q %v", got, err)
	}
	c.SelfSigned = true
	got, err := call(googlelogin.New(c))
	if err != nil || strings.Count(got, ".") != 2 || s.logins.Load() != 1 {
		t.Errorf("%d parts, after %d logins: %v", strings.Count(got, ".")+1, s.logins.Load(), err)
	}
}
