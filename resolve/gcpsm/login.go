package gcpsm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/impersonate"
	"google.golang.org/api/option"
	"google.golang.org/grpc/metadata"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/resolve/backend"
)

// defaultScope is the one that Google's own clients ask for.
const defaultScope = "https://www.googleapis.com/auth/cloud-platform"

// loginTime is how long a login may take, however many readers gave up on it.
const loginTime = 20 * time.Second

// minimumLeft is how long a token must be good for to be used.
const minimumLeft = 30 * time.Second

// accessToken is a login: connfs's own, and nothing of a connection.
type accessToken struct {
	Token    string
	Expiry   time.Time
	Project  string // of the credentials; may be empty
	Quota    string // the project that is billed; may be empty
	Universe string
	Of       string // whose login it is: a digest of the settings
}

func (t *accessToken) good() bool { return t != nil && time.Until(t.Expiry) > minimumLeft }

// onto returns a context whose calls carry the login.
func (t *accessToken) onto(ctx context.Context) context.Context {
	if t.Quota != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-user-project", t.Quota)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.Token)
}

// login logs in to Google, once for all readers, and again when the token runs out.
type login struct {
	of      string
	source  credentialSource
	mu      sync.Mutex
	token   *accessToken
	pending chan struct{} // closed when the login under way ends
	err     error         // of the last login
}

// newLogin takes the arguments that say who connfs is.
func newLogin(s *backend.Secrets, kw *arguments.Object) *login {
	l := &login{source: parseCredentialSource(kw)}
	sum := sha256.Sum256([]byte(s.Kwargs))
	l.of = hex.EncodeToString(sum[:16])
	return l
}

// get returns a login that is good. It returns when ctx ends; the login goes on for
// whoever comes next.
func (l *login) get(ctx context.Context) (*accessToken, error) {
	l.mu.Lock()
	if l.token.good() {
		defer l.mu.Unlock()
		return l.token, nil
	}
	if l.pending == nil {
		l.pending = make(chan struct{})
		go l.logIn(l.pending)
	}
	pending := l.pending
	l.mu.Unlock()
	select {
	case <-pending:
	case <-ctx.Done():
		return nil, backend.ContextError(source, ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token.good() {
		return l.token, nil
	}
	if l.err == nil {
		return nil, conn.Errorf(conn.Denied, source, "Google gives no token that lasts")
	}
	return nil, l.err
}

func (l *login) logIn(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), loginTime)
	defer cancel()
	// What follows does not look at its context alone.
	client := &http.Client{Timeout: loginTime, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 5 * time.Second}}
	defer client.CloseIdleConnections()
	token, err := l.source.logIn(context.WithValue(ctx, oauth2.HTTPClient, client))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		token.Of = l.of
		l.token = token
	}
	l.err = err
	l.pending = nil
	close(done)
}

// drop forgets a login that Google does not take, unless there is another one already.
func (l *login) drop(refused *accessToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == refused {
		l.token = nil
	}
}

func (l *login) identity() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.token.good() {
		return nil
	}
	text, _ := json.Marshal(l.token)
	return text
}

func (l *login) adopt(text []byte) {
	var t accessToken
	if json.Unmarshal(text, &t) != nil || t.Token == "" || t.Of != l.of {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil || t.Expiry.After(l.token.Expiry) {
		l.token = &t
	}
}

// credentialSource are where connfs's own credentials come from.
type credentialSource struct {
	keyPath string   // of a service account's key file
	file    string   // of a credential configuration, where it is a file
	content string   // the JSON of one, or of a key
	scopes  []string // of the token
	chain   []string // accounts to become, one after the other
}

func parseCredentialSource(kw *arguments.Object) credentialSource {
	c := credentialSource{keyPath: kw.Text("gcp_key_path", ""), scopes: []string{defaultScope}}
	given := 0
	if c.keyPath != "" {
		given++
		if !strings.HasSuffix(c.keyPath, ".json") {
			kw.Fail("gcp_key_path", "Airflow takes only the path of a .json file")
		}
	}
	if key := kw.Map("gcp_keyfile_dict"); len(key) > 0 {
		given++
		// Airflow mends keys whose line breaks are escaped twice.
		if text, ok := key["private_key"].(string); ok {
			key["private_key"] = strings.ReplaceAll(text, `\n`, "\n")
		}
		text, _ := json.Marshal(key)
		c.content = string(text)
	}
	const config = "gcp_credential_config_file"
	if _, ok := kw.Value(config).(map[string]any); ok {
		given++
		text, _ := json.Marshal(kw.Map(config))
		c.content = string(text)
	} else if text := kw.Text(config, ""); strings.HasPrefix(strings.TrimSpace(text), "{") {
		given++
		c.content = text
	} else if text != "" {
		given++
		c.file = text
	}
	if given > 1 {
		kw.Fail(config, "only one of gcp_key_path, gcp_keyfile_dict and gcp_credential_config_file can be given")
	}
	if scopes := kw.Text("gcp_scopes", ""); scopes != "" {
		c.scopes = nil
		for scope := range strings.SplitSeq(scopes, ",") {
			c.scopes = append(c.scopes, strings.TrimSpace(scope))
		}
	}
	c.chain = parseChain(kw)
	return c
}

// parseChain takes an account, or a list of them of which the last one is to become.
func parseChain(kw *arguments.Object) []string {
	const name = "impersonation_chain"
	var chain []string
	switch v := kw.Value(name).(type) {
	case nil:
	case string:
		if v != "" {
			chain = []string{v}
		}
	case []any:
		for _, item := range v {
			account, ok := item.(string)
			if !ok {
				kw.Fail(name, "expected a service account, or a list of them")
			}
			chain = append(chain, account)
		}
	default:
		kw.Fail(name, "expected a service account, or a list of them")
	}
	for _, account := range chain {
		if !strings.Contains(account, "@") {
			kw.Fail(name, "a service account is named by its e-mail address")
			break
		}
	}
	return chain
}

// logIn fetches a token.
func (c credentialSource) logIn(ctx context.Context) (*accessToken, error) {
	found, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	source := found.TokenSource
	t := &accessToken{Project: found.ProjectID, Quota: quotaProject(found.JSON)}
	if t.Universe, err = found.GetUniverseDomain(); err != nil {
		return nil, loginError(err)
	}
	if len(c.chain) > 0 {
		target := c.chain[len(c.chain)-1]
		_, domain, _ := strings.Cut(target, "@")
		t.Project, _, _ = strings.Cut(domain, ".")
		source, err = impersonate.CredentialsTokenSource(ctx, impersonate.CredentialsConfig{
			TargetPrincipal: target, Delegates: c.chain[:len(c.chain)-1], Scopes: c.scopes,
		}, option.WithHTTPClient(oauth2.NewClient(ctx, source)))
		if err != nil {
			return nil, loginError(err)
		}
	}
	token, err := source.Token()
	if err != nil {
		return nil, loginError(err)
	}
	t.Token, t.Expiry = token.AccessToken, token.Expiry
	if t.Expiry.IsZero() {
		t.Expiry = time.Now().Add(time.Hour)
	}
	return t, nil
}

// find finds the credentials, as Airflow does: those that are given, or else the
// application default ones.
func (c credentialSource) find(ctx context.Context) (*google.Credentials, error) {
	content := []byte(c.content)
	if path := c.keyPath + c.file; path != "" {
		var err error
		if content, err = os.ReadFile(path); err != nil {
			return nil, backend.FileError(conn.Denied, source, path, err)
		}
	}
	if len(content) == 0 {
		found, err := google.FindDefaultCredentials(ctx, c.scopes...)
		if err != nil {
			return nil, &conn.Error{
				Kind: conn.Denied, Source: source, Reason: "no application default credentials are found, or they cannot be used",
				Hint: "set GOOGLE_APPLICATION_CREDENTIALS or gcp_key_path", Err: err,
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
	var kind struct{ Type google.CredentialsType }
	if json.Unmarshal(content, &kind) != nil {
		return nil, conn.Errorf(conn.Denied, source, "the credentials are not JSON")
	}
	if c.keyPath != "" && kind.Type != google.ServiceAccount {
		return nil, conn.Errorf(conn.Denied, source, "gcp_key_path does not hold the key of a service account")
	}
	found, err := google.CredentialsFromJSONWithTypeAndParams(ctx, content, kind.Type, google.CredentialsParams{Scopes: c.scopes})
	if err != nil {
		return nil, &conn.Error{Kind: conn.Denied, Source: source, Reason: "the credentials cannot be used", Err: err}
	}
	return found, nil
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

// impersonateStatus finds what an impersonation's error says of the answer's status.
var impersonateStatus = regexp.MustCompile(`^impersonate: status code ([0-9]{3})`)

// loginError is the table of what can go wrong with a login.
func loginError(err error) error {
	code := 0
	var (
		refused   *oauth2.RetrieveError
		transport *url.Error
	)
	if errors.As(err, &refused) && refused.Response != nil {
		code = refused.Response.StatusCode
	} else if m := impersonateStatus.FindStringSubmatch(err.Error()); m != nil {
		code, _ = strconv.Atoi(m[1])
	}
	e := &conn.Error{Kind: conn.Unreachable, Reason: "Google's login service failed"}
	switch {
	case code == http.StatusTooManyRequests || code >= 500:
	case code >= 400:
		e = &conn.Error{Kind: conn.Denied, Reason: "Google refuses the login"}
	case errors.As(err, &transport):
		e = network.Classify(err)
		e.Reason = "logging in: " + e.Reason
	default:
		e = &conn.Error{Kind: conn.Denied, Reason: "no login can be made of the credentials"}
	}
	e.Source, e.Err = source, err
	return e
}
