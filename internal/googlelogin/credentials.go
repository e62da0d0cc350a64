package googlelogin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/impersonate"
	"google.golang.org/api/option"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/internal/trust"
)

// Scope is the scope that Google's own clients ask for.
const Scope = "https://www.googleapis.com/auth/cloud-platform"

// Credentials say who connfs is to Google.
type Credentials struct {
	// Read returns the JSON of a key file, or of a credential configuration. It is called for
	// each login, and its error is a *conn.Error. nil, or no content: the application default
	// credentials.
	Read func() ([]byte, error)
	// Scopes are those of the token; empty: [Scope].
	Scopes []string
	// Chain are accounts to become, one after the other; the token is the last one's.
	Chain []string
	// SelfSigned has a service account sign its tokens itself, where no account is to become:
	// that needs no call, and not every service takes such a token.
	SelfSigned bool
	// Tag tells this login from others: a token is only adopted under an equal tag.
	Tag string
	// Hint says what to set where there are no application default credentials.
	Hint string
}

// logIn gets a token. Its error is a *conn.Error without a source.
func (c Credentials) logIn(ctx context.Context) (*Token, error) {
	if len(c.Scopes) == 0 {
		c.Scopes = []string{Scope}
	}
	watch := &watch{base: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 5 * time.Second,
	}}
	// The libraries do not all look at their context.
	client := &http.Client{
		Timeout: loginTime, Transport: watch,
		// Nothing that logs in goes to where another server says.
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	defer watch.base.CloseIdleConnections()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	found, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	t, err := c.token(ctx, found)
	if err != nil {
		return nil, watch.classify(err)
	}
	return t, nil
}

// token gets a token with the credentials that were found.
func (c Credentials) token(ctx context.Context, found *google.Credentials) (*Token, error) {
	t := &Token{Project: found.ProjectID, Quota: quotaProject(found.JSON)}
	var err error
	if t.Universe, err = found.GetUniverseDomain(); err != nil {
		return nil, err
	}
	source := found.TokenSource
	switch {
	case len(c.Chain) > 0:
		target := c.Chain[len(c.Chain)-1]
		_, domain, _ := strings.Cut(target, "@")
		t.Project, _, _ = strings.Cut(domain, ".")
		source, err = impersonate.CredentialsTokenSource(ctx, impersonate.CredentialsConfig{
			TargetPrincipal: target, Delegates: c.Chain[:len(c.Chain)-1], Scopes: c.Scopes,
		}, option.WithHTTPClient(oauth2.NewClient(ctx, source)))
	case c.SelfSigned && typeOf(found.JSON) == google.ServiceAccount:
		source, err = google.JWTAccessTokenSourceWithScope(found.JSON, c.Scopes...)
	}
	if err != nil {
		return nil, err
	}
	token, err := source.Token()
	if err != nil {
		return nil, err
	}
	t.Token, t.Expiry = token.AccessToken, token.Expiry
	if t.Expiry.IsZero() {
		t.Expiry = time.Now().Add(time.Hour)
	}
	return t, nil
}

// find finds the credentials: those that are given, or else the application default ones.
func (c Credentials) find(ctx context.Context) (*google.Credentials, error) {
	var content []byte
	if c.Read != nil {
		var err error
		if content, err = c.Read(); err != nil {
			return nil, err
		}
	}
	if len(content) == 0 {
		if err := checkDefault(); err != nil {
			return nil, err
		}
		found, err := google.FindDefaultCredentials(ctx, c.Scopes...)
		if err != nil {
			return nil, &conn.Error{
				Kind:   conn.Denied,
				Reason: "no application default credentials are found, or they cannot be used",
				Hint:   c.Hint, Err: err,
			}
		}
		// Python's library looks there first.
		for _, name := range []string{"GCLOUD_PROJECT", "GOOGLE_CLOUD_PROJECT"} {
			if project := os.Getenv(name); project != "" {
				found.ProjectID = project
			}
		}
		return found, nil
	}
	kind := typeOf(content)
	if kind == "" {
		return nil, conn.Errorf(conn.Denied, "", "the credentials are not JSON with a type")
	}
	params := google.CredentialsParams{Scopes: c.Scopes}
	found, err := google.CredentialsFromJSONWithTypeAndParams(ctx, content, kind, params)
	if err != nil {
		return nil, &conn.Error{
			Kind: conn.Denied, Reason: "the credentials cannot be used", Err: err,
		}
	}
	return found, nil
}

// checkDefault reports a file of application default credentials that somebody else could change.
// What can be trusted stays so until Google's library reads it.
func checkDefault() error {
	path := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	if home, err := os.UserHomeDir(); path == "" && err == nil {
		path = filepath.Join(home, ".config", "gcloud", "application_default_credentials.json")
	}
	if wrong := trust.Own().Check(path); wrong != nil {
		return &conn.Error{
			Kind: conn.Denied, Reason: wrong.Error(), Hint: wrong.Hint, Err: wrong,
		}
	}
	return nil
}

// typeOf returns the type of credentials in a file; empty: it is not such a file.
func typeOf(content []byte) google.CredentialsType {
	var file struct{ Type google.CredentialsType }
	_ = json.Unmarshal(content, &file)
	return file.Type
}

// quotaProject returns the project that the owner of the credentials has billed.
func quotaProject(text []byte) string {
	if project := os.Getenv("GOOGLE_CLOUD_QUOTA_PROJECT"); project != "" {
		return project
	}
	var file struct {
		Project string `json:"quota_project_id"`
	}
	_ = json.Unmarshal(text, &file) // there may be no file
	return file.Project
}

// watch is a transport that remembers how the last exchange of a login ended: the errors of
// the libraries say it only in their text.
type watch struct {
	base *http.Transport

	mu     sync.Mutex
	status int   // of the last answer; 0: there was none
	err    error // of the last exchange; nil: it had an answer
}

// RoundTrip implements http.RoundTripper.
func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := w.base.RoundTrip(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.err = 0, err
	if answer != nil {
		w.status = answer.StatusCode
	}
	return answer, err
}

// classify is the table of what can go wrong with a login.
func (w *watch) classify(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var transport *url.Error // also of an exchange with the metadata server of a machine
	e := &conn.Error{Kind: conn.Unreachable, Reason: "Google's login service failed"}
	switch {
	case w.status == http.StatusTooManyRequests || w.status >= 500:
	case w.status >= 400:
		e = &conn.Error{Kind: conn.Denied, Reason: "Google refuses the login"}
	case w.err != nil:
		e = network.Classify(w.err)
		e.Reason = "logging in: " + e.Reason
	case errors.As(err, &transport):
		e = network.Classify(err)
		e.Reason = "logging in: " + e.Reason
	default:
		e = &conn.Error{Kind: conn.Denied, Reason: "no login can be made of the credentials"}
	}
	e.Err = err
	return e
}
