package kms_test

import (
	"context"
	"fmt"
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
	key := "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	for _, c := range []struct {
		settings kms.Settings
		says     string // empty: accepted
	}{
		{kms.Settings{Type: "aws"}, ""},
		{kms.Settings{Type: "aws", Key: "alias/a", Region: "eu-west-1", Profile: "p", CredentialsFile: "/c", Endpoint: "http://h:1", Mode: "direct"}, ""},
		{kms.Settings{Type: "aws", RoleARN: "arn:r", ExternalID: "x"}, ""},
		{kms.Settings{Type: "aws", RoleARN: "arn:r", WebIdentityTokenFile: "/t"}, ""},
		{kms.Settings{Type: "gcp"}, ""},
		{kms.Settings{Type: "gcp", Key: key + "/cryptoKeyVersions/3", Endpoint: "h:1", CredentialsFile: "/c", CacheTTL: 1, CacheUses: 1}, ""},
		{kms.Settings{Type: "local", Key: "/k"}, ""},
		{kms.Settings{}, "aws, gcp, local"},
		{kms.Settings{Type: "AWS"}, "aws, gcp, local"},
		{kms.Settings{Type: "local"}, "key is missing"},
		{kms.Settings{Type: "local", Key: "/k", Region: "SECRET"}, "region is no setting of type local"},
		{kms.Settings{Type: "aws", Mode: "both"}, "neither envelope nor direct"},
		{kms.Settings{Type: "aws", CacheTTL: -1}, "negative"},
		{kms.Settings{Type: "aws", ExternalID: "SECRET"}, "external_id without role_arn"},
		{kms.Settings{Type: "aws", WebIdentityTokenFile: "/t"}, "web_identity_token_file without role_arn"},
		{kms.Settings{Type: "aws", Endpoint: "SECRET"}, "endpoint is not a URL"},
		{kms.Settings{Type: "gcp", Key: "k"}, "key is not of the form"},
		{kms.Settings{Type: "gcp", Key: key + "/x"}, "key is not of the form"},
		{kms.Settings{Type: "gcp", Endpoint: "https://h"}, "host:port"},
		{kms.Settings{Type: "gcp", RoleARN: "SECRET"}, "role_arn is no setting of type gcp"},
	} {
		err := kms.CheckSettings(c.settings)
		if c.says == "" != (err == nil) || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "SECRET")) {
			t.Errorf("%+v: %v, want %q", c.settings, err, c.says)
		}
		_, err2 := kms.NewKeyring(map[string]kms.Settings{"main": c.settings})
		if (err == nil) != (err2 == nil) || err2 != nil && !strings.Contains(err2.Error(), "kms.main: ") {
			t.Errorf("%+v: NewKeyring: %v", c.settings, err2)
		}
	}
}

func TestConnectionsThatAreNoKMS(t *testing.T) {
	k := kmstest.Keyring(t, localSettings(t))
	for name, c := range map[string]struct {
		connection *conn.Connection
		says       string
	}{
		"absent":          {nil, "neither a [kms.NAME] nor a connection"},
		"another type":    {&conn.Connection{Type: text("postgres")}, "stands for none"},
		"no type":         {&conn.Connection{}, "stands for none"},
		"local":           {&conn.Connection{Type: text("local"), Extra: conn.NewSecret(`{"kms_key": "/etc/passwd"}`)}, "stands for none"},
		"no JSON":         {&conn.Connection{Type: text("aws"), Extra: conn.NewSecret("SECRET")}, "not a JSON object"},
		"null":            {&conn.Connection{Type: text("google_cloud_platform"), Extra: conn.NewSecret("null")}, "not a JSON object"},
		"unknown key":     {&conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{"novel": "SECRET"}`)}, "novel"},
		"half a key pair": {&conn.Connection{Type: text("aws"), Login: text("SECRET")}, "without a password"},
		"a bad mode":      {&conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{"kms_mode": "both"}`)}, "neither envelope nor direct"},
		"a file to send": {&conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{"role_arn": "arn:r", "assume_role_method": "assume_role_with_web_identity",
			"assume_role_with_web_identity_federation": "file", "assume_role_with_web_identity_token_file": "/etc/shadow"}`)}, "by a [kms.NAME] only"},
		"a program to run": {&conn.Connection{Type: text("google_cloud_platform"), Extra: conn.NewSecret(`{"keyfile_dict": {"type": "external_account"}}`)}, "not taken here"},
		"no such file":     {&conn.Connection{Type: text("google_cloud_platform"), Extra: conn.NewSecret(`{"key_path": "/nonexistent"}`)}, "cannot be read"},
		"another identity": {&conn.Connection{Type: text("google_cloud_platform"), Extra: conn.NewSecret(`{"impersonation_chain": "SECRET"}`)}, "impersonation_chain"},
		"two identities":   {&conn.Connection{Type: text("google_cloud_platform"), Extra: conn.NewSecret(`{"extra__google_cloud_platform__key_path": "/a", "keyfile_dict": "{}"}`)}, "only one"},
	} {
		connections := map[string]*conn.Connection{}
		if c.connection != nil {
			connections["vault"] = c.connection
		}
		_, err := k.Seal(t.Context(), "a", kmstest.Sample(), "vault", nil, in(connections, nil))
		if err == nil || conn.KindOf(err) == conn.Absent || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "kms vault: ") || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
	if _, err := k.Seal(t.Context(), "a", kmstest.Sample(), "vault", nil, nil); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("without a finder: %v", err)
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
		"what is sealed":   {"a", sealed, nil, "sealed already"},
		"no id":            {"", kmstest.Sample(), nil, "conn_id"},
		"an id of bytes":   {"\xff", kmstest.Sample(), nil, "conn_id"},
		"an unknown field": {"a", kmstest.Sample(), []string{"conn_id"}, "no field of a connection"},
		"lone surrogates":  {"a", bad, nil, "the password is not UTF-8"},
	} {
		if _, err := k.Seal(t.Context(), c.id, c.plain, "main", c.fields, nil); conn.KindOf(err) != conn.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
}

// A KMS connection that is sealed by itself, or by one that it seals, would never open.
func TestCyclesAreNotSealed(t *testing.T) {
	k := kmstest.Keyring(t, localSettings(t))
	aws := &conn.Connection{Type: text("aws"), Extra: conn.NewSecret(`{"region_name": "eu-west-1", "kms_key": "alias/a", "endpoint_url": "http://127.0.0.1:1"}`)}
	wantCycle := func(err error) {
		t.Helper()
		if conn.KindOf(err) != conn.KeyRejected || !strings.Contains(err.Error(), "by itself") {
			t.Errorf("%v, want a cycle", err)
		}
	}
	_, err := k.Seal(t.Context(), "one", aws, "one", nil, in(map[string]*conn.Connection{"one": aws}, nil))
	wantCycle(err)
	// "two" is sealed by "one", so "one" cannot be sealed by "two". The path opens it.
	two := &conn.Connection{Extra: conn.NewSecret(`{"connfs_sealed": 1, "kms_conn_id": "one", "kms_type": "aws", "mode": "direct", "fields": "extra", "kms_extra": {}}`)}
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
	settings := kms.Settings{Type: "gcp", Key: s.CreateKey("key"), Endpoint: s.Address}
	for _, c := range []struct {
		ttl  time.Duration
		uses int
		want int // calls for six reads
	}{{0, 0, 6}, {time.Hour, 0, 6}, {0, 5, 6}, {time.Hour, 1, 3}, {time.Hour, 2, 2}, {time.Hour, 100, 1}} {
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
