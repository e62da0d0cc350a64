package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/kms"
)

func TestKeyServices(t *testing.T) {
	src := source(t, `
[kms.main]
type             = "aws"
key              = "alias/airflow"
mode             = "direct"
region           = "eu-west-1"
profile          = "airflow"
role_arn         = "arn:aws:iam::1:role/r"
external_id      = "e"
web_identity_token_file = "/run/token"
credentials_file = "aws"
endpoint         = "http://127.0.0.1:4566"
cache_ttl        = "90s"
cache_uses       = 3

[kms."a b"]
type = "local"
key  = "kek"

[kms.google]
type             = "gcp"
key              = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
credentials_file = "gcp.json"
`)
	credentials := t.TempDir()
	src.Environ = append(src.Environ, "CREDENTIALS_DIRECTORY="+credentials)
	write(t, filepath.Join(credentials, "kek"), "k", 0o600)
	beside := filepath.Dir(src.ConfigFile)
	write(t, filepath.Join(beside, "kek"), "k", 0o600)

	got := load(t, src)
	want := map[string]kms.Settings{
		"main": {
			Type: "aws", Key: "alias/airflow", Mode: "direct", Region: "eu-west-1", Profile: "airflow", RoleARN: "arn:aws:iam::1:role/r",
			ExternalID: "e", WebIdentityTokenFile: "/run/token", CredentialsFile: filepath.Join(beside, "aws"),
			Endpoint: "http://127.0.0.1:4566", CacheTTL: 90 * time.Second, CacheUses: 3,
		},
		"a b":    {Type: "local", Key: filepath.Join(credentials, "kek")},
		"google": {Type: "gcp", Key: "projects/p/locations/l/keyRings/r/cryptoKeys/k", CredentialsFile: filepath.Join(beside, "gcp.json")},
	}
	if diff := cmp.Diff(want, got.KMS); diff != "" {
		t.Errorf("KMS (-want +got):\n%s", diff)
	}
}

func TestKeyServicesAreShown(t *testing.T) {
	src := source(t, "[kms.b]\ntype = \"local\"\nkey = \"kek\"\n[kms.a]\nkey = \"alias/airflow\"\ntype = \"aws\"\ncache_ttl = \"60s\"\ncache_uses = 9\n")
	var b strings.Builder
	if err := config.WriteSettings(&b, load(t, src).Settings, false, false); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("CONFIG", src.ConfigFile, "BESIDE", filepath.Dir(src.ConfigFile)).Replace(`secrets.backend = ""  # default
kms.a.type = "aws"  # CONFIG:6
kms.a.key = "alias/airflow"  # CONFIG:5
kms.a.cache_ttl = "1m"  # CONFIG:7
kms.a.cache_uses = 9  # CONFIG:8
kms.b.type = "local"  # CONFIG:2
kms.b.key = "BESIDE/kek"  # CONFIG:3
audit.file = "-"  # default
`)
	if !strings.Contains(b.String(), want) {
		t.Errorf("the settings are\n%s\nwithout\n%s", b.String(), want)
	}
}
