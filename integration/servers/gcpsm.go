package servers

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// FakeSecretManager is a fake of Google Secret Manager, written from the documentation
// of its published interface, since there is no server to run in tests. It answers
// AccessSecretVersion and ListSecrets, and its login service gives tokens that it
// counts and takes back. The newest version counts as latest, whatever its state.
type FakeSecretManager struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer

	URL string // http://127.0.0.1:PORT, of the service
	Key string // of a service account of the project "login-project": JSON

	t      testing.TB
	server *grpc.Server // nil while down

	mu      sync.Mutex
	secrets map[string]*GoogleSecret
	tokens  map[string]bool
	logins  int
	calls   map[string]int
	fail    []error
	corrupt bool
	refuse  int // the status that logins get; 0: none
}

// GoogleSecret is a secret: its versions, oldest first.
type GoogleSecret struct {
	Project  string
	Secret   string
	Denied   bool
	Versions []GoogleVersion
}

// GoogleVersion is one version of a secret; State is ENABLED, DISABLED or DESTROYED.
type GoogleVersion struct {
	Data  []byte
	State string
}

// StartFakeSecretManager starts an empty server, which t stops.
func StartFakeSecretManager(t testing.TB) *FakeSecretManager {
	t.Helper()
	f := &FakeSecretManager{
		t: t, secrets: map[string]*GoogleSecret{}, tokens: map[string]bool{},
		calls: map[string]int{},
	}
	logins := httptest.NewServer(http.HandlerFunc(f.logIn))
	t.Cleanup(logins.Close)
	f.Key = serviceAccountKey(t, logins.URL)
	f.URL = fmt.Sprintf("http://%s:%d", loopback, freePort(t))
	f.Up()
	t.Cleanup(f.Down)
	return f
}

// Up listens again after [FakeSecretManager.Down], on the same port.
func (f *FakeSecretManager) Up() {
	f.t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(f.URL, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.server = grpc.NewServer()
	secretmanagerpb.RegisterSecretManagerServiceServer(f.server, f)
	go func(s *grpc.Server) { _ = s.Serve(l) }(f.server) // until it is stopped
}

// Down breaks every connection off and listens no more.
func (f *FakeSecretManager) Down() {
	if f.server != nil {
		f.server.Stop()
		f.server = nil
	}
}

// Put makes a secret, or replaces it.
func (f *FakeSecretManager) Put(s GoogleSecret) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[s.Project+"/"+s.Secret] = &s
}

// Fail makes the next calls fail with these errors, one each.
func (f *FakeSecretManager) Fail(errs ...error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = errs
}

// Corrupt makes payloads arrive with another checksum, until it is called with false.
func (f *FakeSecretManager) Corrupt(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.corrupt = on
}

// RefuseLogins makes the login service answer with an HTTP status; 0: no more.
func (f *FakeSecretManager) RefuseLogins(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = status
}

// Revoke makes every token that was given so far worthless.
func (f *FakeSecretManager) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

// Logins is how many tokens were given.
func (f *FakeSecretManager) Logins() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins
}

// Calls is how often a method was called.
func (f *FakeSecretManager) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func (f *FakeSecretManager) logIn(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if f.refuse != 0 {
		w.WriteHeader(f.refuse)
		fmt.Fprint(w, `{"error": "invalid_grant"}`)
		return
	}
	if r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" ||
		strings.Count(r.FormValue("assertion"), ".") != 2 {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "invalid_request"}`)
		return
	}
	f.logins++
	token := newPassword()
	f.tokens[token] = true
	fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, token)
}

// enter counts a call, and refuses it if it does not carry a token of this server.
func (f *FakeSecretManager) enter(ctx context.Context, method string) error {
	f.calls[method]++
	if len(f.fail) > 0 {
		err := f.fail[0]
		f.fail = f.fail[1:]
		return err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		if f.tokens[strings.TrimPrefix(v, "Bearer ")] {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "Request had invalid authentication credentials.")
}

var (
	versionName = regexp.MustCompile(
		`^projects/([^/]+)/secrets/([A-Za-z0-9_-]{1,255})/versions/latest$`,
	)
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// AccessSecretVersion returns the newest version of a secret.
func (f *FakeSecretManager) AccessSecretVersion(
	ctx context.Context, r *secretmanagerpb.AccessSecretVersionRequest,
) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "AccessSecretVersion"); err != nil {
		return nil, err
	}
	m := versionName.FindStringSubmatch(r.GetName())
	if m == nil {
		return nil, status.Error(codes.InvalidArgument,
			"The provided Secret Version ID does not match the expected format")
	}
	s := f.secrets[m[1]+"/"+m[2]]
	switch {
	case s == nil:
		return nil, status.Error(codes.NotFound, "Secret not found or has no versions.")
	case s.Denied:
		return nil, status.Error(codes.PermissionDenied,
			"Permission 'secretmanager.versions.access' denied for resource (or it may not exist).")
	case len(s.Versions) == 0:
		return nil, status.Error(codes.NotFound, "Secret not found or has no versions.")
	}
	v := s.Versions[len(s.Versions)-1]
	if v.State != "" && v.State != "ENABLED" {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version is in %s state.",
			v.State)
	}
	sum := int64(crc32.Checksum(v.Data, castagnoli))
	if f.corrupt {
		sum ^= 1
	}
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: fmt.Sprintf("projects/1234567890/secrets/%s/versions/%d", s.Secret,
			len(s.Versions)),
		Payload: &secretmanagerpb.SecretPayload{Data: v.Data, DataCrc32C: &sum},
	}, nil
}

// ListSecrets lists the secrets of a project, at most 20 at a time, so that a client that
// does not ask for further pages misses some. The only filter that it knows is name:TEXT,
// which means "contains".
func (f *FakeSecretManager) ListSecrets(
	ctx context.Context, r *secretmanagerpb.ListSecretsRequest,
) (*secretmanagerpb.ListSecretsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "ListSecrets"); err != nil {
		return nil, err
	}
	if r.GetPageSize() > 25_000 {
		return nil, status.Error(codes.InvalidArgument, "page_size is out of range")
	}
	project, ok := strings.CutPrefix(r.GetParent(), "projects/")
	text, known := strings.CutPrefix(r.GetFilter(), "name:")
	if !ok || !known && r.GetFilter() != "" {
		return nil, status.Error(codes.InvalidArgument,
			"the parent or the filter is of no known form")
	}
	var names []string
	for _, s := range f.secrets {
		if s.Project == project && strings.Contains(s.Secret, text) {
			names = append(names, "projects/1234567890/secrets/"+s.Secret)
		}
	}
	slices.Sort(names)
	first, err := strconv.Atoi(r.GetPageToken())
	if r.GetPageToken() != "" && err != nil || first > len(names) {
		return nil, status.Error(codes.InvalidArgument, "page_token")
	}
	answer := &secretmanagerpb.ListSecretsResponse{TotalSize: int32(len(names))}
	last := min(first+20, len(names))
	for _, name := range names[first:last] {
		answer.Secrets = append(answer.Secrets, &secretmanagerpb.Secret{Name: name})
	}
	if last < len(names) {
		answer.NextPageToken = strconv.Itoa(last)
	}
	return answer, nil
}

// serviceAccountKey returns the key of a service account that logs in at url.
func serviceAccountKey(t testing.TB, url string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "login-project",
		"private_key_id": base64.RawURLEncoding.EncodeToString([]byte("key")),
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   "connfs@login-project.iam.gserviceaccount.com", "client_id": "1",
		"token_uri": url + "/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
