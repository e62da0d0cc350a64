//go:build integration

package kms_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// opens seals and unseals with one KMS.
func opens(
	t *testing.T, what string, k *kms.Keyring, kmsID string, find kms.Finder,
) *conn.Connection {
	t.Helper()
	sealed, err := k.Seal(t.Context(), "a", kmstest.Sample(), kmsID, nil, find)
	if err != nil {
		t.Errorf("%s: sealing: %v", what, err)
		return nil
	}
	back, err := k.Unseal(t.Context(), "a", sealed, find)
	if err != nil || !cmp.Equal(kmstest.Fields(back), kmstest.Fields(kmstest.Sample())) {
		t.Errorf("%s: unsealing: %v", what, err)
	}
	return sealed
}

func TestAWSKeysAndLoginsByEveryName(t *testing.T) {
	noAWS(t)
	m := servers.StartMoto(t)
	arn := newKey(t, m, "{}")
	m.Populate(
		"TrentService.CreateAlias", `{"AliasName": "alias/airflow", "TargetKeyId": "`+arn+`"}`,
	)
	file := credentials(t, "test", "test")
	id := arn[strings.LastIndex(arn, "/")+1:]
	base := kmstest.Settings("aws", "key", arn, "endpoint", m.URL, "credentials_file", file)
	for key, region := range map[string]string{
		arn: "", id: "eu-west-1", "alias/airflow": "eu-west-1",
		strings.Replace(arn, "key/"+id, "alias/airflow", 1): "",
		// The region of an ARN counts more than the one of the settings.
		arn[:len(arn)-len(id)] + id: "us-east-1",
	} {
		s := kmstest.With(base, "key", key, "region", region)
		sealed := opens(t, key, kmstest.Keyring(t, s), "main", nil)
		if sealed == nil {
			continue
		}
		if d, _ := kms.Describe(sealed); d.Key != arn {
			t.Errorf("%s: sealed by %s, want the ARN", key, d.Key)
		}
		// To read, no key needs to be configured, only where to ask.
		elsewhere := kmstest.Keyring(t, kmstest.With(base, "key", "", "region", "us-west-2"))
		if _, err := elsewhere.Unseal(t.Context(), "a", sealed, nil); err != nil {
			t.Errorf("%s: without a key: %v", key, err)
		}
	}
	wrongRegion := kmstest.Keyring(t, kmstest.With(base, "key", id, "region", "us-east-1"))
	_, err := wrongRegion.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
	if conn.KindOf(err) != conn.KeyRejected || !strings.Contains(err.Error(), "region") {
		t.Errorf("in the wrong region: %v", err)
	}

	// Roles need STS, for which only the environment names another endpoint.
	t.Setenv("AWS_ENDPOINT_URL", m.URL)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a.web.identity"), 0o600); err != nil {
		t.Fatal(err)
	}
	const roleARN = "arn:aws:iam::123456789012:role/connfs"
	role := kmstest.With(base, "role_arn", roleARN, "external_id", "x")
	web := kmstest.Settings("aws", "key", arn, "endpoint", m.URL,
		"role_arn", roleARN, "web_identity_token_file", token)
	profile := kmstest.With(base, "profile", "billing")
	const keys = "aws_access_key_id = a\naws_secret_access_key = b\n"
	profiles := []byte("[billing]\n" + keys + "[default]\n" + keys)
	if err := os.WriteFile(file, profiles, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]kms.Settings{
		"role": role, "web identity": web, "profile": profile,
	} {
		opens(t, what, kmstest.Keyring(t, s), "main", nil)
	}
}

func TestAirflowConnectionIsAKMS(t *testing.T) {
	noAWS(t)
	m := servers.StartMoto(t)
	proxy := servers.StartFaultProxy(t, m.URL)
	arn := newKey(t, m, "{}")
	extra := fmt.Sprintf(
		`{"region_name": "eu-west-1", "endpoint_url": %q, "kms_key": %q`, proxy.URL, arn,
	)
	connections := map[string]*conn.Connection{
		"keys": {
			Type: text("aws"), Login: text("a"), Password: conn.NewSecret("b"),
			Extra: conn.NewSecret(extra + `}`),
		},
		"direct": {
			Type: text("aws"), Login: text("a"), Password: conn.NewSecret("b"),
			Extra: conn.NewSecret(extra + `, "kms_mode": "direct", "aws_session_token": "t"}`),
		},
		"role": {Type: text("aws"), Extra: conn.NewSecret(extra + fmt.Sprintf(`,
			"aws_access_key_id": "a", "aws_secret_access_key": "b", "external_id": "x",
			"role_arn": "arn:aws:iam::123456789012:role/r",
			"service_config": {"sts": {"endpoint_url": %q}, "kms": {"endpoint_url": %q}}
		}`, proxy.URL, proxy.URL))},
	}
	count := make(map[string]int)
	k := kmstest.Keyring(t, localSettings(t), slices.Collect(maps.Keys(connections))...)
	for name := range connections {
		for range 2 {
			sealed := opens(t, name, k, name, in(connections, count))
			if d, err := kms.Describe(sealed); err != nil || d.KMSConnID != name ||
				d.KMSType != "aws" || (d.Mode == "direct") != (name == "direct") {
				t.Errorf("%s: %+v %v", name, d, err)
			}
		}
		if count[name] != 1 {
			t.Errorf("%s: looked up %d times, want once", name, count[name])
		}
	}
	if n := proxy.Calls()["AssumeRole"]; n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

// The next child goes on with the login of this one, also where the one between them
// never needed it.
func TestLoginOutlivesTheProcess(t *testing.T) {
	noAWS(t)
	m := servers.StartMoto(t)
	proxy := servers.StartFaultProxy(t, m.URL)
	t.Setenv("AWS_ENDPOINT_URL", proxy.URL)
	settings := kmstest.Settings("aws", "key", newKey(t, m, "{}"), "endpoint", proxy.URL,
		"credentials_file", credentials(t, "test", "test"),
		"role_arn", "arn:aws:iam::123456789012:role/connfs")
	var identities map[string][]byte
	for i := range 5 {
		k := kmstest.Keyring(t, settings)
		k.Adopt(map[string][]byte{"main": []byte("nonsense"), "nobody": []byte("x")})
		k.Adopt(identities)
		if i != 2 {
			opens(t, "child", k, "main", nil)
		}
		if identities = k.Identities(); identities["main"] == nil {
			t.Fatal("nothing is handed over")
		}
	}
	if calls := proxy.Calls(); calls["AssumeRole"] != 1 || calls["TrentService.Decrypt"] != 4 {
		t.Errorf("%v, want one login and one call a read", calls)
	}
}

func TestSilentKMSIsATimeout(t *testing.T) {
	noAWS(t)
	m := servers.StartMoto(t)
	proxy := servers.StartFaultProxy(t, m.URL)
	k := kmstest.Keyring(t, kmstest.Settings("aws", "key", newKey(t, m, "{}"),
		"endpoint", proxy.URL, "credentials_file", credentials(t, "test", "test")))
	sealed := opens(t, "before", k, "main", nil)
	for what, f := range map[string]servers.Fault{
		"silent": {Hang: true}, "late": {Delay: time.Minute}, "dripping": {Drip: time.Second},
	} {
		proxy.Inject(f)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		start := time.Now()
		_, err := k.Unseal(ctx, "a", sealed, nil)
		if conn.KindOf(err) != conn.Timeout || time.Since(start) > resolvetest.Patience {
			t.Errorf("%s: %v after %v, want a timeout", what, err, time.Since(start))
		}
		cancel()
		proxy.Heal()
	}
	opens(t, "afterwards", k, "main", nil)
}
