package awslogin

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go/logging"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// Login is one way of speaking to AWS. It is safe for concurrent use.
type Login struct {
	settings Settings
	creds    *keeper
	pause    pause

	mu     sync.Mutex
	loaded *aws.Config // nil: not yet
	client *http.Transport
}

// New returns a Login. It reads no file and connects to nothing.
func New(s Settings) *Login {
	l := &Login{settings: s}
	l.creds = &keeper{tag: tag(s)}
	return l
}

// Config returns the configuration for a service's client, which must be called
// within [Login.Call]: the client itself repeats nothing. The first call reads the
// environment and AWS's shared configuration files. Its error is a *conn.Error.
func (l *Login) Config(ctx context.Context) (aws.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded != nil {
		return l.loaded.Copy(), nil
	}
	if err := l.settings.checkFiles(); err != nil {
		return aws.Config{}, err
	}
	cfg, err := l.load(ctx)
	if err != nil {
		return aws.Config{}, loadError(ctx, err)
	}
	if cfg.Region == "" {
		return aws.Config{}, &conn.Error{
			Kind: conn.Unreachable, Reason: "no AWS region is configured",
			Hint: "set region_name, or AWS_DEFAULT_REGION in the environment of connfs",
		}
	}
	l.loaded = &cfg
	return cfg.Copy(), nil
}

// Endpoint is the URL for the BaseEndpoint of a service's client, nil where AWS's own
// rules decide. It is set there, and not in the configuration, where a variable such
// as AWS_ENDPOINT_URL_SSM would win over it, which it does not in Airflow.
func (l *Login) Endpoint() *string {
	if l.settings.Endpoint == "" {
		return nil
	}
	return &l.settings.Endpoint
}

// Close drops the idle connections.
func (l *Login) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		l.client.CloseIdleConnections()
	}
	return nil
}

// files returns the files that a login may read: those that the settings and the environment
// name, and AWS's own shared ones, which can also name a program to run.
func (s *Settings) files() []string {
	shared := func(name, file string) string {
		home, err := os.UserHomeDir()
		if named := os.Getenv(name); named != "" || err != nil {
			return named
		}
		return filepath.Join(home, ".aws", file)
	}
	return []string{
		s.CAFile, s.Role.WebIdentityTokenFile,
		first(s.CredentialsFile, shared("AWS_SHARED_CREDENTIALS_FILE", "credentials")),
		shared("AWS_CONFIG_FILE", "config"),
		os.Getenv("AWS_CA_BUNDLE"), os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"),
		os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
	}
}

// checkFiles reports a file that somebody else could change. What can be trusted stays so until
// the SDK reads it; what cannot be read is the SDK's to report.
func (s *Settings) checkFiles() error {
	if wrong := trust.Own().Check(s.files()...); wrong != nil {
		return &conn.Error{
			Kind: conn.Denied, Reason: wrong.Error(), Hint: wrong.Hint, Err: wrong,
		}
	}
	return nil
}

func (l *Login) load(ctx context.Context) (aws.Config, error) {
	s := &l.settings
	client := l.httpClient()
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// The errors say what went wrong: the SDK writes no lines of its own to connfs's log.
		config.WithLogger(logging.Nop{}),
	}
	// Where both are set botocore prefers these, and Go's SDK the others.
	if region := first(s.Region, os.Getenv("AWS_DEFAULT_REGION")); region != "" {
		options = append(options, config.WithRegion(region))
	}
	profile := first(s.Profile, os.Getenv("AWS_DEFAULT_PROFILE"))
	if s.Profile != "" || os.Getenv("AWS_PROFILE") != profile && profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	if s.CredentialsFile != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{s.CredentialsFile}))
	}
	if s.AccessKeyID != "" {
		static := credentials.NewStaticCredentialsProvider(
			s.AccessKeyID, s.SecretAccessKey, s.SessionToken)
		options = append(options, config.WithCredentialsProvider(static))
	}
	if s.DualStack {
		options = append(options,
			config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	if s.FIPS {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if s.CAFile != "" {
		file, _, err := regularfile.Open(s.CAFile, 0, trust.Own())
		if err != nil {
			return aws.Config{}, err
		}
		defer file.Close()
		options = append(options, config.WithCustomCABundle(file))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, err
	}
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		// One transport for all clients, so that Close reaches its connections.
		l.client = c.GetTransport()
		cfg.HTTPClient = &http.Client{Transport: bounded{l.client}, CheckRedirect: noRedirect}
	}
	l.creds.set(l.provider(cfg))
	cfg.Credentials = l.creds
	return cfg, nil
}

// provider returns where credentials come from: the chain's own, or a role that is
// assumed with them.
func (l *Login) provider(cfg aws.Config) aws.CredentialsProvider {
	role := &l.settings.Role
	if role.ARN == "" {
		return cfg.Credentials
	}
	client := sts.NewFromConfig(cfg, func(o *sts.Options) {
		if l.settings.STSEndpoint != "" {
			o.BaseEndpoint = &l.settings.STSEndpoint
		}
	})
	duration := role.Duration
	if duration == 0 {
		duration = time.Hour
	}
	var policies []ststypes.PolicyDescriptorType
	for _, arn := range role.PolicyARNs {
		policies = append(policies, ststypes.PolicyDescriptorType{Arn: &arn})
	}
	session := first(role.SessionName, "connfs")
	if role.WebIdentityTokenFile != "" {
		file := stscreds.IdentityTokenFile(role.WebIdentityTokenFile)
		options := func(o *stscreds.WebIdentityRoleOptions) {
			o.RoleSessionName, o.Duration = session, duration
			o.Policy, o.PolicyARNs = optional(role.Policy), policies
		}
		return stscreds.NewWebIdentityRoleProvider(client, role.ARN, file, options)
	}
	return stscreds.NewAssumeRoleProvider(client, role.ARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName, o.Duration = session, duration
		o.Policy, o.PolicyARNs = optional(role.Policy), policies
		o.ExternalID, o.SourceIdentity = optional(role.ExternalID), optional(role.SourceIdentity)
		o.TransitiveTagKeys = role.TransitiveTags
		for _, key := range slices.Sorted(maps.Keys(role.Tags)) {
			o.Tags = append(o.Tags, ststypes.Tag{Key: &key, Value: aws.String(role.Tags[key])})
		}
	})
}

// noRedirect has a client take a redirect for the answer.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (l *Login) httpClient() *awshttp.BuildableClient {
	s := &l.settings
	return awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
		if s.ConnectTimeout > 0 {
			d.Timeout = s.ConnectTimeout
		}
	}).WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = s.ReadTimeout
		if s.MaxConnections > 0 {
			t.MaxIdleConnsPerHost = s.MaxConnections
		}
		if s.Insecure {
			if t.TLSClientConfig == nil {
				t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			t.TLSClientConfig.InsecureSkipVerify = true
		}
		if len(s.Proxies) > 0 {
			t.Proxy = func(r *http.Request) (*url.URL, error) {
				if p := s.Proxies[r.URL.Scheme]; p != "" {
					return url.Parse(p)
				}
				return nil, nil
			}
		}
	})
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Connect opens a connection to an endpoint and keeps it for the first call. It sends
// no credentials, and counts for no limit on calls. That it fails does not matter.
func (l *Login) Connect(ctx context.Context, endpoint url.URL) {
	l.mu.Lock()
	client := l.client
	l.mu.Unlock()
	if client == nil {
		return
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.String(), nil)
	if err != nil {
		return
	}
	answer, err := client.RoundTrip(r)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	// Read to its end, or the connection is not used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16))
}
