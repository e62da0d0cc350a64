package awslogin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/awslogin"
	"github.com/connfs/connfs/resolve/resolvetest"
)

func TestMain(m *testing.M) {
	// The machine's own logins are not the tests'.
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	os.Setenv("HOME", "/nonexistent")
	goleak.VerifyTestMain(m)
}

// service is a server that answers as a test says. STS gives keys that are numbered.
type service struct {
	*httptest.Server
	logins atomic.Int32
	keys   sync.Map // access keys that were used for calls
	answer func(w http.ResponseWriter, r *http.Request)
}

func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *service {
	t.Helper()
	s := &service{answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") == "AssumeRole" {
		fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials>`+
			`<AccessKeyId>key-%d</AccessKeyId><SecretAccessKey>s</SecretAccessKey>`+
			`<SessionToken>t</SessionToken><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			s.logins.Add(1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		return
	}
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(credential, "/")
	s.keys.Store(key, true)
	s.answer(w, r)
}

func (s *service) settings() awslogin.Settings {
	return awslogin.Settings{
		Region: "eu-west-1", AccessKeyID: "static", SecretAccessKey: "secret",
		Endpoint: s.URL, STSEndpoint: s.URL,
	}
}

func (s *service) role() awslogin.Settings {
	settings := s.settings()
	settings.Role.ARN = "arn:aws:iam::123456789012:role/connfs"
	return settings
}

func get(ctx context.Context, l *awslogin.Login, kinds map[string]conn.Kind) error {
	return l.Call(ctx, kinds, func(ctx context.Context) error {
		cfg, err := l.Config(ctx)
		if err != nil {
			return err
		}
		name := "/a"
		_, err = ssm.NewFromConfig(
			cfg, func(o *ssm.Options) { o.BaseEndpoint = l.Endpoint() },
		).GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
		return err
	})
}

func found(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, `{"Parameter": {"Value": "v"}}`)
}

func fails(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestKindsOfFailures(t *testing.T) {
	code := func(code string) func(http.ResponseWriter, *http.Request) {
		return fails(400, `{"__type": "`+code+`", "message": "SECRET-TEXT kms:Decrypt"}`)
	}
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		kind   conn.Kind
		reason string
		calls  int
	}{
		{"absent", code("ParameterNotFound"), conn.Absent, "does not exist", 1},
		{
			"larger than any answer of AWS's",
			fails(200, `{"Parameter": {"Value": "`+strings.Repeat("x", 16<<20)+`"}}`),
			conn.TooLarge, "the answer is over 16777216 bytes", 1,
		},
		{
			"denied", code("AccessDeniedException"), conn.Denied,
			"(SSM GetParameter: AccessDeniedException) (the right that is missing is kms:Decrypt)",
			1,
		},
		{
			"unknown key", code("UnrecognizedClientException"), conn.Denied,
			"does not take the credentials", 1,
		},
		{
			"denied without a code",
			fails(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"),
			conn.Denied, "refuses", 1,
		},
		{"throttled", code("ThrottlingException"), conn.Unreachable, "throttled", 0},
		{"fault", fails(503, "down for maintenance"), conn.Unreachable, "fault", 3},
		{"of its own", code("InvalidKeyId"), conn.KeyRejected, "KMS key", 1},
		{"renamed", code("Renamed"), conn.Absent, "does not exist", 1},
		{"unknown", code("Surprise"), conn.Failed, "Surprise", 1},
		{"no JSON", fails(200, "<html>login here</html>"), conn.Unreachable, "not AWS's", 3},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"Parameter": {"Value": "SECRET`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, conn.Unreachable, "broke off", 3},
		{
			"reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			conn.Unreachable, "cut the connection", 3,
		},
		{
			"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			conn.Timeout, "deadline", 1,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var calls atomic.Int32
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				tc.answer(w, r)
			})
			l := awslogin.New(s.settings())
			defer l.Close()
			start := time.Now()
			err := get(within(t, 2*time.Second), l, map[string]conn.Kind{"Renamed": conn.Absent})
			if err == nil || conn.KindOf(err) != tc.kind ||
				!strings.Contains(err.Error(), tc.reason) {
				t.Errorf("%v, want %v: %s", err, tc.kind, tc.reason)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error shows what the service said: %v", err)
			}
			if took := time.Since(start); took > resolvetest.Patience {
				t.Errorf("answered after %v", took)
			}
			if got := int(calls.Load()); tc.calls > 0 && got != tc.calls {
				t.Errorf("%d calls, want %d", got, tc.calls)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	s := serve(t, found)
	l := awslogin.New(s.settings())
	s.Close()
	if err := get(within(t, 5*time.Second), l, nil); conn.KindOf(err) != conn.Unreachable {
		t.Errorf("%v", err)
	}
}

func TestConfigurationsThatCannotLogIn(t *testing.T) {
	s := serve(t, found)
	for want, change := range map[string]func(*awslogin.Settings){
		"no AWS region":              func(o *awslogin.Settings) { o.Region = "" },
		"no AWS credentials":         func(o *awslogin.Settings) { o.AccessKeyID = "" },
		"the profile is not in":      func(o *awslogin.Settings) { o.Profile = "nobody" },
		"configuration names is not": func(o *awslogin.Settings) { o.CAFile = "/nonexistent" },
	} {
		settings := s.settings()
		change(&settings)
		l := awslogin.New(settings)
		if err := get(within(t, 5*time.Second), l, nil); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		l.Close()
	}
}

func TestProfileAndVariablesAreTaken(t *testing.T) {
	s := serve(t, found)
	dir := t.TempDir()
	files := map[string]string{
		"config": "[profile billing]\nregion = eu-west-2\n" +
			"[profile other]\nregion = eu-west-3\n",
		"credentials": "[billing]\naws_access_key_id = from-profile\naws_secret_access_key = s\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	region := func(settings awslogin.Settings) string {
		t.Helper()
		l := awslogin.New(settings)
		defer l.Close()
		if err := get(within(t, 5*time.Second), l, nil); err != nil {
			t.Fatal(err)
		}
		cfg, err := l.Config(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Region
	}
	if got := region(awslogin.Settings{Profile: "billing", Endpoint: s.URL}); got != "eu-west-2" {
		t.Errorf("region %s", got)
	}
	if _, ok := s.keys.Load("from-profile"); !ok {
		t.Error("the profile's key was not used")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "from-variable")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_DEFAULT_REGION", "us-east-2")
	if got := region(awslogin.Settings{Endpoint: s.URL}); got != "us-east-2" {
		t.Errorf("region %s, want botocore's choice", got)
	}
	if _, ok := s.keys.Load("from-variable"); !ok {
		t.Error("the variable's key was not used")
	}
}

func TestOneLoginForManyCallersAndGenerations(t *testing.T) {
	s := serve(t, found)
	var identity []byte
	for range 5 {
		l := awslogin.New(s.role())
		l.Adopt(identity)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := get(within(t, 10*time.Second), l, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := l.Warm(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		if identity = l.Identity(); identity == nil {
			t.Fatal("nothing to hand over")
		}
		l.Close()
	}
	if n := s.logins.Load(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	other := s.role()
	other.Role.ARN += "2"
	l := awslogin.New(other)
	defer l.Close()
	l.Adopt(identity)
	l.Adopt([]byte("nonsense"))
	if l.Identity() != nil {
		t.Error("another role's credentials were adopted")
	}
	static := awslogin.New(s.settings())
	defer static.Close()
	if err := get(within(t, 10*time.Second), static, nil); err != nil || static.Identity() != nil {
		t.Errorf("%v, or a static key is handed over", err)
	}
}

func TestCredentialsThatAWSCallsBadAreRenewedOnce(t *testing.T) {
	var good atomic.Value
	good.Store("key-1")
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(
			r.Header.Get("Authorization"), "Credential="+good.Load().(string)+"/",
		) {
			fails(400, `{"__type": "ExpiredTokenException"}`)(w, r)
			return
		}
		found(w, r)
	})
	first := awslogin.New(s.role())
	defer first.Close()
	if err := get(within(t, 10*time.Second), first, nil); err != nil {
		t.Fatal(err)
	}
	good.Store("key-2")
	next := awslogin.New(s.role())
	defer next.Close()
	next.Adopt(first.Identity())
	if err := get(within(t, 10*time.Second), next, nil); err != nil {
		t.Error(err)
	}
	good.Store("none")
	for range 3 {
		if err := get(within(t, 10*time.Second), next, nil); conn.KindOf(err) != conn.Denied {
			t.Error(err)
		}
	}
	if n := s.logins.Load(); n != 2 {
		t.Errorf("%d logins, want 2: a refusal must not become a storm of logins", n)
	}
}

func TestThrottlingPausesAllCallersTogether(t *testing.T) {
	var calls, inRow atomic.Int32
	var open atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if !open.Load() {
			fails(400, `{"__type": "ThrottlingException"}`)(w, r)
			return
		}
		inRow.Add(1)
		found(w, r)
	})
	l := awslogin.New(s.settings())
	defer l.Close()
	if err := get(within(t, 500*time.Millisecond), l, nil); conn.KindOf(err) != conn.Unreachable ||
		!strings.Contains(err.Error(), "throttled") {
		t.Fatal(err)
	}
	before := calls.Load()
	// Their deadline is within the pause: they are told without a call.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := get(within(t, 5*time.Millisecond), l, nil); err == nil {
				t.Error("found")
			}
		})
	}
	wg.Wait()
	if n := calls.Load() - before; n > 5 {
		t.Errorf("%d calls by 50 callers while the service throttles", n)
	}
	open.Store(true)
	if err := get(within(t, 10*time.Second), l, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestTimeThatRunsOutOnARepetitionDoesNotHideTheFailureBefore(t *testing.T) {
	for answer, want := range map[string]string{
		`{"__type": "ThrottlingException"}`: "throttled",
		`{"__type": "InternalServerError"}`: "fault",
	} {
		var calls atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 1 {
				fails(500, answer)(w, r)
				return
			}
			<-r.Context().Done()
		})
		l := awslogin.New(s.settings())
		defer l.Close()
		err := get(within(t, 500*time.Millisecond), l, nil)
		if n := calls.Load(); n != 2 || conn.KindOf(err) != conn.Unreachable ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s, then nothing, in %d calls: %v, want %s", answer, n, err, want)
		}
	}
}

func TestTimeThatRunsOutAfterANewLoginIsNoRefusal(t *testing.T) {
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1:
			found(w, r)
		case 2:
			fails(400, `{"__type": "ExpiredTokenException"}`)(w, r)
		default:
			<-r.Context().Done()
		}
	})
	first := awslogin.New(s.role())
	defer first.Close()
	if err := get(within(t, 10*time.Second), first, nil); err != nil {
		t.Fatal(err)
	}
	next := awslogin.New(s.role())
	defer next.Close()
	next.Adopt(first.Identity())
	err := get(within(t, 2*time.Second), next, nil)
	if n := calls.Load(); n != 3 || conn.KindOf(err) != conn.Timeout {
		t.Errorf("%v after %d calls, want a timeout after 3", err, n)
	}
}

func TestACallerThatGivesUpIsNotAnOutage(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	l := awslogin.New(s.settings())
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	err := get(ctx, l, nil)
	var ce *conn.Error
	if !errors.As(err, &ce) || ce.Kind != conn.Timeout ||
		!strings.Contains(ce.Reason, "called off") {
		t.Error(err)
	}
}

func TestFromArguments(t *testing.T) {
	o := arguments.New(map[string]any{
		"region_name": "eu-west-1", "profile_name": nil,
		"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_session_token": "c",
		"endpoint_url": "http://localhost:1", "verify": "/ca.pem",
		"role_arn": "arn:r", "assume_role_method": "assume_role",
		"assume_role_kwargs": map[string]any{
			"ExternalId": "x", "DurationSeconds": 900.0, "RoleSessionName": "n", "Policy": "{}",
			"PolicyArns": []any{map[string]any{"arn": "arn:p"}},
			"Tags": []any{
				map[string]any{"Key": "k", "Value": "v"},
			}, "TransitiveTagKeys": []any{"k"}, "SourceIdentity": "me",
		},
		"service_config": map[string]any{
			"sts": map[string]any{"endpoint_url": "https://sts"},
			"s3":  map[string]any{"bucket_name": "b"},
		},
		"config_kwargs": map[string]any{
			"connect_timeout": 1.5, "read_timeout": 2.0, "retries": map[string]any{
				"max_attempts": 4.0, "mode": "standard",
			},
			"proxies": map[string]any{
				"https": "http://proxy:3128",
			}, "signature_version": "v4", "user_agent_extra": "x",
		},
	})
	want := awslogin.Settings{
		Region: "eu-west-1", AccessKeyID: "a", SecretAccessKey: "b", SessionToken: "c",
		Endpoint: "http://localhost:1", CAFile: "/ca.pem",
		STSEndpoint: "https://sts", Attempts: 5,
		ConnectTimeout: 1500 * time.Millisecond, ReadTimeout: 2 * time.Second,
		Proxies: map[string]string{"https": "http://proxy:3128"},
		Role: awslogin.Role{
			ARN: "arn:r", SessionName: "n", ExternalID: "x", Duration: 15 * time.Minute,
			Policy: "{}", PolicyARNs: []string{"arn:p"},
			SourceIdentity: "me", Tags: map[string]string{"k": "v"}, TransitiveTags: []string{"k"},
		},
	}
	s := awslogin.FromArguments(o)
	if diff := cmp.Diff(want, s); diff != "" || o.Err() != nil {
		t.Errorf("%v (-want +got):\n%s", o.Err(), diff)
	}
	for key, extra := range map[string]map[string]any{
		"foo":               {"foo": "SECRET"},
		"region_name":       {"region_name": 1.0},
		"verify":            {"verify": 1.0},
		"aws_access_key_id": {"aws_access_key_id": "SECRET"},
		"endpoint_url":      {"endpoint_url": "SECRET"},
		"assume_role_method": {
			"role_arn": "r", "assume_role_method": "assume_role_with_saml",
		},
		"assume_role_kwargs.TokenCode": {
			"role_arn": "r", "assume_role_kwargs": map[string]any{"TokenCode": "SECRET"},
		},
		"config_kwargs.client_cert": {
			"config_kwargs": map[string]any{"client_cert": "SECRET"},
		},
		"config_kwargs.connect_timeout": {
			"config_kwargs": map[string]any{"connect_timeout": "SECRET"},
		},
		"config_kwargs.retries": {"config_kwargs": map[string]any{"retries": "SECRET"}},
		"config_kwargs.proxies.https": {
			"config_kwargs": map[string]any{"proxies": map[string]any{"https": "SECRET"}},
		},
		"service_config.sts.region_name": {
			"service_config": map[string]any{"sts": map[string]any{"region_name": "SECRET"}},
		},
	} {
		o := arguments.New(extra)
		awslogin.FromArguments(o)
		wrong := o.Wrong()
		text := fmt.Sprint(wrong)
		if len(wrong) != 1 || !strings.HasPrefix(text, "["+key+": ") ||
			strings.Contains(text, "SECRET") {
			t.Errorf("%s: %v", key, wrong)
		}
	}
}
