//go:build integration

package kms_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms/kmstest"
)

// awsServer is a server that speaks for AWS.
type awsServer interface {
	Populate(target, body string) string
}

// newKey makes a key and returns its ARN.
func newKey(t testing.TB, s awsServer, body string) string {
	t.Helper()
	var made struct{ KeyMetadata struct{ Arn string } }
	err := json.Unmarshal([]byte(s.Populate("TrentService.CreateKey", body)), &made)
	if err != nil || made.KeyMetadata.Arn == "" {
		t.Fatalf("no key: %v", err)
	}
	return made.KeyMetadata.Arn
}

// credentials writes a shared credentials file.
func credentials(t testing.TB, accessKey, secretKey string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf(
		"[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKey, secretKey,
	)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// noAWS keeps the AWS configuration of this machine out of a test.
func noAWS(t testing.TB) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
	} {
		if tt, ok := t.(interface{ Setenv(string, string) }); ok {
			tt.Setenv(name, "")
		}
	}
}

func TestAWSOnMoto(t *testing.T) {
	noAWS(t)
	m := servers.StartMoto(t)
	proxy := servers.StartFaultProxy(t, m.URL)
	key := newKey(t, m, "{}")
	settings := kmstest.Settings("aws", "key", key, "endpoint", proxy.URL,
		"credentials_file", credentials(t, "test", "test"))
	other := kmstest.With(settings, "key", newKey(t, m, "{}"))
	away := kmstest.With(settings, "endpoint", "http://127.0.0.1:1")
	fault := func(kind conn.Kind, says string, f servers.Fault) kmstest.Failure {
		return kmstest.Failure{Kind: kind, Says: says, Begin: func(*testing.T) func() {
			proxy.Inject(f)
			return proxy.Heal
		}}
	}
	answer := func(code string) servers.Fault {
		return servers.Fault{
			Status: 400, Body: `{"__type": "` + code + `", "message": "about arn:aws:kms:SECRET"}`,
		}
	}
	kmstest.Run(t, kmstest.Harness{
		Settings: settings, Other: other, Unreachable: &away, DirectLimit: 4096,
		Failures: map[string]kmstest.Failure{
			"denied": fault(
				conn.Denied, "refuses connfs the use of the key", answer("AccessDeniedException"),
			),
			"disabled": fault(conn.KeyRejected, "disabled", answer("DisabledException")),
			"pending deletion": fault(
				conn.KeyRejected, "pending deletion", answer("KMSInvalidStateException"),
			),
			"not found": fault(
				conn.KeyRejected, "no such key", answer("NotFoundException"),
			),
			"wrong usage": fault(
				conn.KeyRejected, "not one for encrypting", answer("InvalidKeyUsageException"),
			),
			"throttled": fault(
				conn.Unreachable, "throttled",
				servers.Fault{Status: 400, Body: servers.Throttled().Body, Times: 1000},
			),
			"too many requests": fault(conn.Unreachable, "KMS", answer("LimitExceededException")),
			"expired": fault(
				conn.Denied, "ExpiredToken", answer("ExpiredTokenException"),
			),
			"bad signature": fault(
				conn.Denied, "InvalidSignature", answer("InvalidSignatureException"),
			),
			"unknown code": fault(conn.Failed, "Novel", answer("NovelException")),
			"no code": fault(
				conn.Denied, "refuses", servers.Fault{Status: 403, Body: "<html>"},
			),
			"a proxy's page": fault(
				conn.Unreachable, "not AWS", servers.Fault{Status: 200, Body: "<html>"},
			),
			"internal": fault(
				conn.Unreachable, "fault",
				servers.Fault{Status: 500, Body: `{"__type": "KMSInternalException"}`},
			),
			"unavailable": fault(conn.Unreachable, "fault", servers.Fault{Status: 503}),
			"reset":       fault(conn.Unreachable, "", servers.Fault{Reset: true}),
			"cut body":    fault(conn.Unreachable, "broke off", servers.Fault{Cut: 20}),
			"down": {Kind: conn.Unreachable, Says: "refused", Begin: func(*testing.T) func() {
				proxy.Down()
				return proxy.Up
			}},
			"unknown credentials": {Kind: conn.Denied, Says: "", Begin: func(*testing.T) func() {
				m.CheckAuth(true)
				return func() { m.CheckAuth(false) }
			}},
		},
		Lies: map[string]conn.Kind{
			// AWS answers IncorrectKeyException, and InvalidCiphertextException.
			"another key's name": conn.Denied, "first bit of the ciphertext": conn.Denied,
		},
	})
}

func TestAWSOnLocalStack(t *testing.T) {
	noAWS(t)
	s := servers.StartLocalStack(t)
	key := newKey(t, s, "{}")
	only := `{"KeyId": "` + key + `"}`
	settings := kmstest.Settings("aws", "key", key, "endpoint", s.URL,
		"credentials_file", credentials(t, "test", "test"))
	other := kmstest.With(settings, "key", newKey(t, s, "{}"))
	away := kmstest.With(settings, "endpoint", "http://127.0.0.1:1")
	kmstest.Run(t, kmstest.Harness{
		Settings: settings, Other: other, Unreachable: &away, DirectLimit: 4096,
		Failures: map[string]kmstest.Failure{
			"disabled": {Kind: conn.KeyRejected, Says: "disabled", Begin: func(*testing.T) func() {
				s.Populate("TrentService.DisableKey", only)
				return func() { s.Populate("TrentService.EnableKey", only) }
			}},
			"pending deletion": {
				Kind: conn.KeyRejected, Says: "pending deletion", Begin: func(*testing.T) func() {
					s.Populate("TrentService.ScheduleKeyDeletion", only)
					return func() {
						s.Populate("TrentService.CancelKeyDeletion", only)
						s.Populate("TrentService.EnableKey", only)
					}
				},
			},
		},
	})
	signing := kmstest.With(settings,
		"key", newKey(t, s, `{"KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256"}`))
	for _, mode := range []string{"envelope", "direct"} {
		signing.Mode = mode
		_, err := kmstest.Keyring(t, signing).Seal(
			t.Context(), "a", kmstest.Sample(), "main", nil, nil,
		)
		if conn.KindOf(err) != conn.KeyRejected ||
			!strings.Contains(err.Error(), "not one for encrypting") {
			t.Errorf("%s with a signing key: %v", mode, err)
		}
	}
}
