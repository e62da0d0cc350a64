package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connfs/connfs/resolve/backend"
)

// fakeVault answers in the place of a Vault server without a network, so that a test can
// have a clock of its own. The connection of every id is {"host": "h"}.
type fakeVault struct {
	mu     sync.Mutex
	calls  map[string]int // by method and path
	asked  []*http.Request
	bodies []string
	// tokens are those that are accepted; a login adds one.
	tokens map[string]bool
	logins int
	lease  int64 // of tokens, in seconds; 0: no end
	slow   time.Duration
	// answer, where not nil, comes before all else; a status of 0 leaves it to the fake.
	answer func(r *http.Request) (status int, body string)
	cut    bool // break answers off in their middle
}

func newFakeVault(tokens ...string) *fakeVault {
	f := &fakeVault{calls: make(map[string]int), tokens: make(map[string]bool)}
	for _, token := range tokens {
		f.tokens[token] = true
	}
	return f
}

// open returns a Vault backend that asks the fake.
func (f *fakeVault) open(t *testing.T, kwargs map[string]any) *Store {
	t.Helper()
	return f.openFor(t, backend.Secrets{}, kwargs)
}

func (f *fakeVault) openFor(t *testing.T, s backend.Secrets, kwargs map[string]any) *Store {
	t.Helper()
	text, err := json.Marshal(kwargs)
	if err != nil {
		t.Fatal(err)
	}
	s.Kwargs = string(text)
	b, err := backend.Open(&s, Open)
	if err != nil {
		t.Fatal(err)
	}
	v := b.(*Store)
	v.api.http.Transport = f
	return v
}

// counts returns how often each call came since the last time it was asked.
func (f *fakeVault) counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := maps.Clone(f.calls)
	clear(f.calls)
	return calls
}

// revoke makes the server accept no token that it has issued or was given so far.
func (f *fakeVault) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

// RoundTrip implements http.RoundTripper.
func (f *fakeVault) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	if f.slow > 0 {
		select {
		case <-time.After(f.slow):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[r.Method+" "+r.URL.Path]++
	f.asked, f.bodies = append(f.asked, r), append(f.bodies, string(body))
	status, text := f.reply(r)
	var content io.Reader = strings.NewReader(text)
	if f.cut {
		content = io.MultiReader(strings.NewReader(text[:len(text)/2]), broken{})
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(content), Request: r,
	}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// reply answers as Vault would; the lock is held.
func (f *fakeVault) reply(r *http.Request) (int, string) {
	if f.answer != nil {
		if status, text := f.answer(r); status != 0 {
			return status, text
		}
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	issued := func(token string) string {
		var b bytes.Buffer
		_ = json.NewEncoder(&b).Encode(map[string]any{"auth": map[string]any{
			"client_token": token, "lease_duration": f.lease, "renewable": true,
		}})
		return b.String()
	}
	switch {
	case strings.HasPrefix(path, "auth/") && strings.Contains(path, "/login"):
		f.logins++
		token := fmt.Sprintf("issued-%d", f.logins)
		f.tokens[token] = true
		return 200, issued(token)
	case !f.tokens[r.Header.Get("X-Vault-Token")]:
		return 403, `{"errors":["permission denied"]}`
	case path == "auth/token/renew-self":
		return 200, issued(r.Header.Get("X-Vault-Token"))
	case path == "auth/token/lookup-self":
		return 200, fmt.Sprintf(`{"data":{"ttl":%d,"renewable":true}}`, f.lease)
	}
	return 200, `{"data":{"data":{"host":"h"},"metadata":{"version":1}}}`
}
