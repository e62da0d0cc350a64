package kms_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fernet/fernet-go"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
)

// Fernet must fit where the metastore wants a decrypter.
var _ interface{ Decrypt(string) ([]byte, error) } = (*kms.Fernet)(nil)

const specKey = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="

// pythonCase is a key and a token with what Airflow's library makes of them:
// testdata/generate.py.
type pythonCase struct {
	Note     string  `json:"note"`
	Key      string  `json:"key"`
	Token    string  `json:"token"`
	Plain    *[]byte `json:"plain"`
	Rejected bool    `json:"rejected"`
	Unusable bool    `json:"unusable"`
}

func pythonCases(t testing.TB) []pythonCase {
	t.Helper()
	text, err := os.ReadFile("testdata/fernet.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []pythonCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 200 {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

func TestFernetAgreesWithPython(t *testing.T) {
	for _, c := range pythonCases(t) {
		f, err := kms.NewFernet(c.Key)
		if c.Unusable != (err != nil) {
			t.Errorf("%s: NewFernet: %v, want unusable %v", c.Note, err, c.Unusable)
			continue
		}
		got, err := f.Decrypt(c.Token)
		if c.Plain == nil {
			if err == nil || conn.KindOf(err) != conn.KeyRejected {
				t.Errorf("%s: Decrypt: %v, want it rejected", c.Note, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, *c.Plain) {
			t.Errorf("%s: Decrypt: %v, equal %v", c.Note, err, bytes.Equal(got, *c.Plain))
		}
	}
}

// The specification's invalid tokens are invalid here too, except for the two that are
// so only by their age: Airflow sets no limit.
func TestFernetSpecInvalid(t *testing.T) {
	text, err := os.ReadFile("testdata/spec_invalid.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Desc, Token, Secret string }
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 8 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		f, err := kms.NewFernet(c.Secret)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Decrypt(c.Token)
		if byAge := strings.Contains(c.Desc, "TTL") ||
			strings.Contains(c.Desc, "far-future"); byAge {
			if err != nil {
				t.Errorf("%s: %v; want it opened", c.Desc, err)
			}
			continue
		}
		if conn.KindOf(err) != conn.KeyRejected {
			t.Errorf("%s: %v, want it rejected", c.Desc, err)
		}
	}
}

func TestFernetRejectsWithReasonAndWithoutSecrets(t *testing.T) {
	for _, c := range []struct {
		name, key, token, want string
		unusable               bool
	}{
		{
			"no key", "", "gAAAAA",
			"fernet: key rejected: the field is encrypted, and no key is configured (set " +
				"[core] fernet_key)",
			false,
		},
		{
			"blank element", specKey + ",", "gAAAAA",
			"fernet: key rejected: key 2 of 2 in fernet_key is unusable: it is blank (each one " +
				"is 32 bytes in base64, separated by a comma and nothing else)",
			true,
		},
		{
			"short key", "c2VjcmV0", "gAAAAA",
			"fernet: key rejected: key 1 of 1 in fernet_key is unusable: it decodes to 6 " +
				"bytes, not 32 (each one is 32 bytes in base64, separated by a comma and " +
				"nothing else)",
			true,
		},
		{
			"one space", " ", "gAAAAA",
			"fernet: key rejected: key 1 of 1 in fernet_key is unusable: it decodes to 0 " +
				"bytes, not 32 (each one is 32 bytes in base64, separated by a comma and " +
				"nothing else)",
			true,
		},
		{
			"no token", specKey, "gAAAAA==",
			"fernet: key rejected: the token is cut short or no token at all", false,
		},
		{
			"no padding", specKey, "gAAAAAA",
			"fernet: key rejected: the token is not base64: a character or padding is missing",
			false,
		},
	} {
		f, err := kms.NewFernet(c.key)
		if c.unusable != (err != nil) || c.unusable && err.Error() != c.want {
			t.Errorf("%s: NewFernet: %v", c.name, err)
		}
		if _, err := f.Decrypt(c.token); err == nil || err.Error() != c.want {
			t.Errorf("%s: Decrypt: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// FuzzFernet signs whatever it is given: neither a hostile token nor one of somebody who
// holds a key may do more than be rejected.
func FuzzFernet(f *testing.F) {
	for _, c := range pythonCases(f) {
		raw, _ := base64.URLEncoding.DecodeString(c.Token)
		f.Add(c.Key, c.Token, raw)
	}
	secret, _ := base64.URLEncoding.DecodeString(specKey)
	known, err := kms.NewFernet(specKey)
	if err != nil {
		f.Fatal(err)
	}
	key, err := fernet.DecodeKey(specKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, keys, token string, body []byte) {
		fuzzed, err := kms.NewFernet(keys)
		if err != nil && conn.KindOf(err) != conn.KeyRejected {
			t.Fatalf("NewFernet: %v", err)
		}
		if _, err := fuzzed.Decrypt(token); err != nil && conn.KindOf(err) != conn.KeyRejected {
			t.Fatalf("Decrypt: %v", err)
		}
		mac := hmac.New(sha256.New, secret[:16])
		mac.Write(body)
		signed := base64.URLEncoding.EncodeToString(mac.Sum(bytes.Clone(body)))
		if _, err := known.Decrypt(signed); err != nil && conn.KindOf(err) != conn.KeyRejected {
			t.Fatalf("Decrypt of a signed token: %v", err)
		}
		made, err := fernet.EncryptAndSignAtTime(body, key, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := known.Decrypt(string(made)); err != nil || !bytes.Equal(plain, body) {
			t.Fatalf("a good token does not open: %v", err)
		}
	})
}

// Airflow writes with the first key, and reads with any.
func TestFernetEncrypts(t *testing.T) {
	other := "mDBiTcLnBPfqBk9ZHtjIqGVuGEZzYyMnRNCFxkHOGGk="
	f, err := kms.NewFernet(specKey + "," + other)
	if err != nil {
		t.Fatal(err)
	}
	first, err := kms.NewFernet(specKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range []string{"", "x", strings.Repeat("é", 5000)} {
		token, err := f.Encrypt([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		got, err := first.Decrypt(token)
		if err != nil || string(got) != plain || !strings.HasPrefix(token, "gAAAAA") {
			t.Errorf("%d bytes: %v", len(plain), err)
		}
	}
	for _, key := range []string{"", "c2VjcmV0"} {
		unusable, _ := kms.NewFernet(key)
		if token, err := unusable.Encrypt([]byte("x")); token != "" ||
			conn.KindOf(err) != conn.KeyRejected {
			t.Errorf("key %q: %v, want it rejected", key, err)
		}
	}
}
