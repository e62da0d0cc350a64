package kms_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
)

func text(s string) *string { return &s }

// in is a Finder over some connections, which counts.
func in(connections map[string]*conn.Connection, count map[string]int) kms.Finder {
	return func(_ context.Context, id string) (*conn.Connection, error) {
		if count != nil {
			count[id]++
		}
		if c := connections[id]; c != nil {
			return c, nil
		}
		return nil, conn.Errorf(conn.Absent, "", "none is here")
	}
}

func TestSettingsAreRefusedWithReason(t *testing.T) {
	const key = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	settings := kmstest.Settings
	direct := settings("aws", "key", "alias/a", "region", "eu-west-1", "profile", "p",
		"credentials_file", "/c", "endpoint", "http://h:1")
	direct.Mode = "direct"
	cached := settings("gcp", "key", key+"/cryptoKeyVersions/3", "endpoint", "h:1",
		"credentials_file", "/c")
	cached.CacheTTL, cached.CacheUses = 1, 1
	for _, c := range []struct {
		settings kms.Settings
		says     string // empty: accepted
	}{
		{settings("aws"), ""},
		{direct, ""},
		{settings("aws", "role_arn", "arn:r", "external_id", "x"), ""},
		{settings("aws", "role_arn", "arn:r", "web_identity_token_file", "/t"), ""},
		{settings("gcp"), ""},
		{cached, ""},
		{settings("local", "key", "/k"), ""},
		{settings("local", "key", "/k", "region", ""), ""},
		{kms.Settings{}, "type: there is no such type of KMS (it may be aws, gcp, local"},
		{settings("AWS"), "type: there is no such type of KMS (it may be aws, gcp, local"},
		{settings("local"), `key: a KMS of type "local" needs it (a key file: `},
		{
			settings("local", "key", "/k", "region", "SECRET"),
			`region: a KMS of type "local" has no such key`,
		},
		{kms.Settings{Type: "aws", Mode: "both"}, "mode: it may be envelope or direct"},
		{kms.Settings{Type: "aws", CacheTTL: -1}, "cache_ttl: it cannot be negative"},
		{kms.Settings{Type: "aws", CacheUses: -1}, "cache_uses: it cannot be negative"},
		{
			settings("aws", "external_id", "SECRET"),
			`external_id: it has no effect without "role_arn"`,
		},
		{
			settings("aws", "web_identity_token_file", "/t"),
			`web_identity_token_file: it has no effect without "role_arn"`,
		},
		{
			settings("aws", "external_id", "x", "web_identity_token_file", "/t", "role_arn", "r"),
			`external_id: it cannot be set together with "web_identity_token_file"`,
		},
		{settings("aws", "endpoint", "SECRET"), "endpoint: it is not a URL"},
		{settings("aws", "region", "SECRET.example/"), "region: it is not the name of a region"},
		{settings("gcp", "key", "k"), "key: it is not of the form"},
		{settings("gcp", "key", key+"/x"), "key: it is not of the form"},
		{settings("gcp", "endpoint", "https://h"), "host:port"},
		{
			settings("gcp", "role_arn", "SECRET"),
			`role_arn: a KMS of type "gcp" has no such key`,
		},
	} {
		var says []string
		for _, err := range kms.CheckSettings(c.settings) {
			says = append(says, err.Error())
		}
		all := strings.Join(says, "; ")
		if c.says == "" != (all == "") || !strings.Contains(all, c.says) ||
			strings.Contains(all, "SECRET") {
			t.Errorf("%+v: %s, want %q", c.settings, all, c.says)
		}
		_, err := kms.NewKeyring(map[string]kms.Settings{"main": c.settings})
		if (all == "") != (err == nil) || err != nil &&
			!strings.Contains(err.Error(), "kms.main.") {
			t.Errorf("%+v: NewKeyring: %v", c.settings, err)
		}
	}
}

func TestContentsAreNotShown(t *testing.T) {
	s := kms.Settings{Contents: map[string]kms.Content{"key": "SECRET"}}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	logged := new(strings.Builder)
	slog.New(slog.NewTextHandler(logged, nil)).Info("it is", "content", s.Contents["key"])
	content := s.Contents["key"]
	shown := fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, content, content, content) +
		string(encoded) + logged.String()
	if strings.Contains(shown, "SECRET") || strings.Contains(shown, "534543524554") ||
		strings.Count(shown, "[redacted]") != 8 {
		t.Error(shown)
	}
}

func TestConnectionsThatAreNoKMS(t *testing.T) {
	k := kmstest.Keyring(t, localSettings(t), "vault")
	for name, c := range map[string]struct {
		connection *conn.Connection
		says       string
	}{
		"absent":       {nil, "there is no connection of that id"},
		"another type": {&conn.Connection{Type: text("postgres")}, "is not one of a KMS"},
		"no type":      {&conn.Connection{}, "is not one of a KMS"},
		"local": {&conn.Connection{
			Type: text("local"), Extra: conn.NewSecret(`{"kms_key": "/etc/passwd"}`),
		}, "is not one of a KMS"},
		"no JSON": {
			&conn.Connection{Type: text("aws"), Extra: conn.NewSecret("SECRET")},
			"not a JSON object",
		},
		"null": {
			&conn.Connection{Type: text("google_cloud_platform"), Extra: conn.NewSecret("null")},
			"not a JSON object",
		},
		"unknown key": {
			&conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{"novel": "SECRET"}`)},
			"novel",
		},
		"half a key pair": {
			&conn.Connection{Type: text("aws"), Login: text("SECRET")}, "without a password",
		},
		"a bad mode": {
			&conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{"kms_mode": "both"}`)},
			"neither envelope nor direct",
		},
		"a file to send": {&conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{
			"role_arn": "arn:r", "assume_role_method": "assume_role_with_web_identity",
			"assume_role_with_web_identity_federation": "file",
			"assume_role_with_web_identity_token_file": "/etc/shadow"
		}`)}, "only a [kms.NAME] can"},
		"a program to run": {&conn.Connection{
			Type:  text("google_cloud_platform"),
			Extra: conn.NewSecret(`{"keyfile_dict": {"type": "external_account"}}`),
		}, "not taken here"},
		"no such file": {&conn.Connection{
			Type:  text("google_cloud_platform"),
			Extra: conn.NewSecret(`{"key_path": "/nonexistent"}`),
		}, "cannot be read"},
		"another identity": {&conn.Connection{
			Type:  text("google_cloud_platform"),
			Extra: conn.NewSecret(`{"impersonation_chain": "SECRET"}`),
		}, "impersonation_chain"},
		"two identities": {&conn.Connection{
			Type: text("google_cloud_platform"),
			Extra: conn.NewSecret(
				`{"extra__google_cloud_platform__key_path": "/a", "keyfile_dict": "{}"}`),
		}, "only one"},
	} {
		connections := map[string]*conn.Connection{}
		if c.connection != nil {
			connections["vault"] = c.connection
		}
		_, err := k.Seal(t.Context(), "a", kmstest.Sample(), "vault", nil, in(connections, nil))
		if err == nil || conn.KindOf(err) == conn.Absent ||
			!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "SECRET") ||
			!strings.HasPrefix(err.Error(), "kms vault: ") {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
	if _, err := k.Seal(t.Context(), "a", kmstest.Sample(), "vault", nil, nil); err == nil ||
		!strings.Contains(err.Error(), "there is no connection of that id") {
		t.Errorf("without a finder: %v", err)
	}
}

// Whoever can write a connection must not make a KMS of it.
func TestAConnectionThatIsNotListedIsNoKMS(t *testing.T) {
	vault := &conn.Connection{
		Type: text("aws"), Login: text("a"), Password: conn.NewSecret("b"),
		Extra: conn.NewSecret(`{"region_name": "eu-west-1", "kms_key": "alias/a"}`),
	}
	sealed := &conn.Connection{Extra: conn.NewSecret(`{"connfs_sealed": 1,
		"kms_conn_id": "vault", "kms_type": "aws", "mode": "direct", "fields": "extra",
		"kms_extra": {"key": "alias/a", "ciphertext": "AAAA"}}`)}
	for _, listed := range [][]string{nil, {"Vault", "vault ", "other"}} {
		k, count := kmstest.Keyring(t, localSettings(t), listed...), make(map[string]int)
		find := in(map[string]*conn.Connection{"vault": vault}, count)
		_, unsealing := k.Unseal(t.Context(), "a", sealed, find)
		_, sealing := k.Seal(t.Context(), "a", kmstest.Sample(), "vault", nil, find)
		for kind, err := range map[conn.Kind]error{
			conn.KeyRejected: unsealing, conn.Failed: sealing,
		} {
			var e *conn.Error
			if !errors.As(err, &e) || e.Kind != kind || e.Source != "kms vault" ||
				!strings.Contains(e.Reason, "neither a [kms.NAME] nor one of kms_connections") ||
				!strings.Contains(e.Hint, "kms_connections") {
				t.Errorf("%q: %v, want %v", listed, err, kind)
			}
		}
		if len(count) > 0 {
			t.Errorf("%q: it was looked up: %v", listed, count)
		}
	}
}

// A connection without credentials of its own is asked about at AWS's own servers only.
func TestNoConnectionTakesTheMachinesIdentityElsewhere(t *testing.T) {
	const own = `"aws_access_key_id": "a", "aws_secret_access_key": "SECRET", `
	for name, extra := range map[string]string{
		"endpoint_url":                    `"endpoint_url": "http://h:1"`,
		"service_config.kms.endpoint_url": `"service_config": {"kms": {"endpoint_url": "http://h:1"}}`,
		"service_config.sts.endpoint_url": `"role_arn": "arn:r",
			"service_config": {"sts": {"endpoint_url": "http://h:1"}}`,
		"config_kwargs.proxies": `"config_kwargs": {"proxies": {"https": "http://h:1"}}`,
		"verify":                `"verify": false`,
		"verify ":               `"verify": "/own/authority.pem", "profile_name": "default"`,
	} {
		for given, says := range map[string]string{
			"": strings.TrimSpace(name) + ": a connection without an access key of its own " +
				"cannot set it",
			own: "",
		} {
			k := kmstest.Keyring(t, localSettings(t), "vault")
			vault := &conn.Connection{Type: text("aws"), Extra: conn.NewSecret(
				`{` + given + extra + `, "region_name": "eu-west-1", "kms_key": "alias/a"}`)}
			find := in(map[string]*conn.Connection{"vault": vault}, nil)
			// Opening a KMS calls nobody.
			err := k.Check(t.Context(), find)[2].Err
			if says == "" && err != nil || says != "" &&
				(err == nil || !strings.Contains(err.Error(), says)) {
				t.Errorf("%s%s: %v, want %q", given, extra, err, says)
			}
		}
	}
	for _, region := range []string{"evil.example/", "a@b", "a.b", "a:1", "é", "#", "a b"} {
		k := kmstest.Keyring(t, localSettings(t), "vault")
		vault := &conn.Connection{
			Type: text("aws"), Extra: conn.NewSecret(`{"region_name": "` + region + `"}`),
		}
		find := in(map[string]*conn.Connection{"vault": vault}, nil)
		err := k.Check(t.Context(), find)[2].Err
		if err == nil || !strings.Contains(err.Error(), "region_name: expected the name of a") {
			t.Errorf("region %q: %v", region, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	k := kmstest.Keyring(t, localSettings(t))
	sealed, err := k.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := kmstest.Sample()
	bad.Password = conn.NewSecret("\xff")
	for name, c := range map[string]struct {
		id     string
		plain  *conn.Connection
		fields []string
		says   string
	}{
		"what is sealed": {"a", sealed, nil, "sealed already"},
		"no id":          {"", kmstest.Sample(), nil, "conn_id"},
		"an id of bytes": {"\xff", kmstest.Sample(), nil, "conn_id"},
		"an unknown field": {
			"a", kmstest.Sample(), []string{"conn_id"}, "no field of a connection",
		},
		"lone surrogates": {"a", bad, nil, "the password is not UTF-8"},
	} {
		_, err := k.Seal(t.Context(), c.id, c.plain, "main", c.fields, nil)
		if conn.KindOf(err) != conn.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
}

// A KMS connection that is sealed by itself, or by one that it seals, would never open.
func TestCyclesAreNotSealed(t *testing.T) {
	k := kmstest.Keyring(t, localSettings(t), "one", "two")
	aws := &conn.Connection{Type: text("aws"), Extra: conn.NewSecret(
		`{"region_name": "eu-west-1", "kms_key": "alias/a"}`,
	)}
	wantCycle := func(err error) {
		t.Helper()
		if conn.KindOf(err) != conn.KeyRejected || !strings.Contains(err.Error(), "by itself") {
			t.Errorf("%v, want a cycle", err)
		}
	}
	_, err := k.Seal(
		t.Context(), "one", aws, "one", nil, in(map[string]*conn.Connection{"one": aws}, nil),
	)
	wantCycle(err)
	// "two" is sealed by "one", so "one" cannot be sealed by "two". The path opens it.
	two := &conn.Connection{Extra: conn.NewSecret(`{"connfs_sealed": 1, "kms_conn_id": "one", ` +
		`"kms_type": "aws", "mode": "direct", "fields": "extra", "kms_extra": {}}`)}
	var find kms.Finder
	find = func(ctx context.Context, id string) (*conn.Connection, error) {
		if id == "two" {
			return k.Unseal(ctx, id, two, find)
		}
		return aws, nil
	}
	_, err = k.Seal(t.Context(), "one", aws, "two", nil, find)
	wantCycle(err)
}

func TestDataKeysAreUsedAgainWithinTheirLimits(t *testing.T) {
	s := servers.StartGoogleKMS(t)
	settings := kmstest.Settings("gcp", "key", s.CreateKey("key"), "endpoint", s.Address)
	for _, c := range []struct {
		ttl  time.Duration
		uses int
		want int // calls for six reads
	}{
		{0, 0, 6}, {time.Hour, 0, 6}, {0, 5, 6}, {time.Hour, 1, 3}, {time.Hour, 2, 2},
		{time.Hour, 100, 1},
	} {
		settings.CacheTTL, settings.CacheUses = c.ttl, c.uses
		k := kmstest.Keyring(t, settings)
		sealed, err := k.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Calls()
		for range 6 {
			got, err := k.Unseal(t.Context(), "a", sealed, nil)
			if err != nil || !cmp.Equal(kmstest.Fields(got), kmstest.Fields(kmstest.Sample())) {
				t.Fatal(err)
			}
		}
		if got := s.Calls()["Decrypt"]; got != c.want {
			t.Errorf("%v, %d uses: %d calls, want %d", c.ttl, c.uses, got, c.want)
		}
		// Another id has no part in it.
		if _, err := k.Unseal(t.Context(), "b", sealed, nil); conn.KindOf(err) != conn.KeyRejected {
			t.Errorf("under another id: %v", err)
		}
	}
}

// A local key is wiped with its keyring; until the time of a cached data key is up, and
// no longer, what it wrapped opens without it.
func TestDataKeysEndWithTheirTime(t *testing.T) {
	settings := localSettings(t)
	settings.CacheTTL, settings.CacheUses = time.Minute, 1000
	synctest.Test(t, func(t *testing.T) {
		k, err := kms.NewKeyring(map[string]kms.Settings{"main": settings})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := k.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second read is one of the cache
			if _, err := k.Unseal(t.Context(), "a", sealed, nil); err != nil {
				t.Fatal(err)
			}
		}
		if n := kms.CachedKeys(k); n != 1 {
			t.Errorf("%d data keys are kept, want 1", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := kms.CachedKeys(k); n != 0 {
			t.Errorf("%d data keys are kept beyond their time", n)
		}
		if _, err := k.Unseal(t.Context(), "a", sealed, nil); err != nil {
			t.Error(err)
		}
		if err := k.Close(); err != nil || kms.CachedKeys(k) != 0 {
			t.Errorf("closing: %v, %d data keys are kept", err, kms.CachedKeys(k))
		}
	})
}

func TestSealedFormOfUnknownVersionIsNotOpenedButNamed(t *testing.T) {
	k := kmstest.Keyring(t, localSettings(t))
	c := &conn.Connection{Extra: conn.NewSecret(`{"connfs_sealed": 7, "other": [1]}`)}
	_, err := k.Unseal(t.Context(), "a", c, nil)
	_, err2 := kms.Describe(c)
	for _, err := range []error{err, err2} {
		if conn.KindOf(err) != conn.Invalid || !strings.Contains(fmt.Sprint(err), "version 7") {
			t.Errorf("%v", err)
		}
	}
}
