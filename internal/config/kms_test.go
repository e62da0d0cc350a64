package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/kms"
)

// localKey is the content of a key file.
var localKey = strings.Repeat("A", 43) + "=\n"

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
credentials_file = "aws"
endpoint         = "http://127.0.0.1:4566"
cache_ttl        = "90s"
cache_uses       = 3

[kms.pod]
type                    = "aws"
role_arn                = "arn:aws:iam::1:role/r"
web_identity_token_file = "token"

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
	write(t, filepath.Join(credentials, "kek"), localKey, 0o400)
	beside := filepath.Dir(src.ConfigFile)
	write(t, filepath.Join(beside, "kek"), "no key", 0o600)
	write(t, filepath.Join(beside, "gcp.json"), "{}\n", 0o600)

	got := load(t, src)
	want := map[string]kms.Settings{
		"main": {
			Type: "aws", Mode: "direct", CacheTTL: 90 * time.Second, CacheUses: 3,
			Values: map[string]string{
				"key": "alias/airflow", "region": "eu-west-1", "profile": "airflow",
				"role_arn": "arn:aws:iam::1:role/r", "external_id": "e",
				"credentials_file": filepath.Join(beside, "aws"),
				"endpoint":         "http://127.0.0.1:4566",
			},
		},
		"pod": {Type: "aws", Values: map[string]string{
			"role_arn":                "arn:aws:iam::1:role/r",
			"web_identity_token_file": filepath.Join(beside, "token"),
		}},
		"a b": {
			Type: "local", Values: map[string]string{"key": filepath.Join(credentials, "kek")},
			Contents: map[string]kms.Content{"key": kms.Content(localKey)},
		},
		"google": {
			Type: "gcp",
			Values: map[string]string{
				"key":              "projects/p/locations/l/keyRings/r/cryptoKeys/k",
				"credentials_file": filepath.Join(beside, "gcp.json"),
			},
			Contents: map[string]kms.Content{"credentials_file": "{}"},
		},
	}
	if diff := cmp.Diff(want, got.KMS); diff != "" {
		t.Errorf("KMS (-want +got):\n%s", diff)
	}
}

func TestKeyServicesAreShown(t *testing.T) {
	src := source(t, "[kms.b]\ntype = \"local\"\nkey = \"kek\"\n"+
		"[kms.a]\nkey = \"alias/airflow\"\ntype = \"aws\"\ncache_ttl = \"60s\"\ncache_uses = 9\n")
	write(t, filepath.Join(filepath.Dir(src.ConfigFile), "kek"), localKey, 0o400)
	var b strings.Builder
	if err := config.WriteSettings(&b, load(t, src).Settings, false, false); err != nil {
		t.Fatal(err)
	}
	paths := strings.NewReplacer(
		"CONFIG", src.ConfigFile, "BESIDE", filepath.Dir(src.ConfigFile))
	want := paths.Replace(`secrets.backend = ""  # default
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

func TestKeyFilesThatCannotServe(t *testing.T) {
	const local = "[kms.main]\ntype = \"local\"\nkey = \"kek\"\n"
	const google = "[kms.main]\ntype = \"gcp\"\n" +
		"key = \"projects/p/locations/l/keyRings/r/cryptoKeys/k\"\ncredentials_file = \"kek\"\n"
	for name, tc := range map[string]struct {
		text, content string
		mode          os.FileMode
		want          string
	}{
		"no key": {
			local, "hunter2", 0o400,
			":3: kms.main.key: the key file PATH does not hold a key: 32 bytes in base64url, " +
				"on one line",
		},
		"readable to all": {
			local, localKey, 0o444,
			":3: kms.main.key: the key file PATH has the mode 0444, with which others can read " +
				"or write it (chmod 0400; 0440 if its group is connfs's own)",
		},
		"empty": {google, "", 0o400, ":4: kms.main.credentials_file: PATH is empty"},
		"not there": {
			local, "", 0,
			":3: kms.main.key: the key file PATH is not there (put back the copy that " +
				"you kept, since what it sealed opens with no other key; `connfs keygen` makes a " +
				"first one)",
		},
		"not there either": {
			google, "", 0, ":4: kms.main.credentials_file: PATH: no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.text)
			path := filepath.Join(filepath.Dir(src.ConfigFile), "kek")
			if tc.mode != 0 {
				write(t, path, tc.content, tc.mode)
			}
			want := src.ConfigFile + strings.ReplaceAll(tc.want, "PATH", path)
			if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConnectionsThatMayBeAKMSAreListed(t *testing.T) {
	const main = "[kms.main]\ntype = \"aws\"\n"
	src := source(t, "kms_connections = [\"aws_kms\", \"a*\"]\n"+main)
	if diff := cmp.Diff([]string{"aws_kms", "a*"}, load(t, src).KMSConnections); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if got := load(t, source(t, main)).KMSConnections; len(got) != 0 {
		t.Errorf("by default %q", got)
	}
	for text, want := range map[string]string{
		`kms_connections = ["a", "main"]`: `:1: kms_connections: [kms.main] has the same name, ` +
			`and the connection is not read (leave one of the two out)`,
		`kms_connections = ["a", "a"]`: `:1: kms_connections: "a" is in the list twice ` +
			`(leave one of the two out)`,
		`kms_connections = "a"`:  `:1: kms_connections: expected an array of strings, got a string`,
		`kms_connections = [""]`: `:1: kms_connections: it contains an empty string`,
	} {
		src := source(t, text+"\n"+main)
		if got := loadError(t, src); !strings.HasPrefix(got, src.ConfigFile+want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestSealedConnectionsCanBeDemanded(t *testing.T) {
	const kmsTables = "[kms.main]\ntype = \"aws\"\nsealed = true\n" +
		"[kms.old]\ntype = \"aws\"\nsealed = true\n[kms.free]\ntype = \"aws\"\nsealed = false\n"
	const rule = "[[grant]]\nrun_as_user = 5001\nconnections = [\"a\"]\n"
	src := source(t, kmsTables+rule+"sealed = true\n"+rule)
	got := load(t, src)
	if diff := cmp.Diff([]string{"main", "old"}, got.Front.SealedBy); diff != "" {
		t.Errorf("demanded by (-want +got):\n%s", diff)
	}
	if r := got.Front.Rules; len(r) != 2 || !r[0].Sealed || r[1].Sealed {
		t.Errorf("rules %+v", r)
	}
	var b strings.Builder
	if err := config.WriteSettings(&b, got.Settings, false, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kms.main.sealed = true  # " + src.ConfigFile + ":3\n",
		"kms.free.sealed = false  # " + src.ConfigFile + ":9\n",
		"grant[0].sealed = true  # " + src.ConfigFile + ":10\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the settings are\n%s\nwithout\n%s", b.String(), want)
		}
	}

	src = source(t, rule+"sealed = true\n")
	if got, want := loadError(t, src), src.ConfigFile+":1: grant.sealed: no KMS is configured, so "+
		"nothing that it grants could be read (add a [kms.NAME], or kms_connections)"; got != want {
		t.Errorf("without a KMS: %s, want %s", got, want)
	}
	listed := "kms_connections = [\"aws_kms\"]\n"
	for text, warns := range map[string]bool{
		listed + rule + "sealed = true\n":             true,
		listed + rule:                                 false,
		listed + kmsTables + rule + "sealed = true\n": false,
	} {
		all := strings.Join(load(t, source(t, text)).Warnings, "\n")
		if strings.Contains(all, `kms_connections: whoever can write "aws_kms" can seal`) != warns {
			t.Errorf("%s: warnings %q, want it: %v", text, all, warns)
		}
	}
}
