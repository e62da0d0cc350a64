//go:build integration

package kms_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms/kmstest"
)

// Tink's client of Google Cloud KMS judges the server of these tests, and what connfs
// sends to it.
func TestGoogleServerIsHeldToTink(t *testing.T) {
	program := filepath.Join(t.TempDir(), "judge")
	build := exec.Command("go", "build", "-C", "../integration/gcpkmsjudge", "-o", program)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the judge: %v\n%s", err, out)
	}
	s := servers.StartGoogleKMS(t)
	key := s.CreateKey("key")
	judge := func(verb string, data, aad []byte) ([]byte, error) {
		t.Helper()
		request, err := json.Marshal(map[string][]byte{"data": data, "aad": aad})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, s.Address, key, verb)
		cmd.Stdin = bytes.NewReader(request)
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		return base64.StdEncoding.DecodeString(strings.TrimSpace(string(out)))
	}
	aad := []byte("bound to this")
	for _, data := range [][]byte{
		[]byte("sixteen bytes..."), bytes.Repeat([]byte("long"), 10_000),
	} {
		ciphertext, err := judge("encrypt", data, aad)
		if err != nil || bytes.Contains(ciphertext, data) {
			t.Fatalf("encrypting: %v", err)
		}
		s.CreateKey("key") // older versions go on opening what they made
		if got, err := judge("decrypt", ciphertext, aad); err != nil || !bytes.Equal(got, data) {
			t.Errorf("decrypting: %v", err)
		}
		if _, err := judge("decrypt", ciphertext, []byte("bound to that")); err == nil {
			t.Error("it decrypts under another AAD")
		}
		ciphertext[len(ciphertext)-1] ^= 1
		if _, err := judge("decrypt", ciphertext, aad); err == nil {
			t.Error("it decrypts what was changed")
		}
	}
	// The judge sees the faults of the server that connfs must see.
	ciphertext, err := judge("encrypt", []byte("x"), aad)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]servers.GoogleFault{
		"corrupt": {Corrupt: true}, "no sums": {NoSums: true},
	} {
		s.Fail(f)
		if _, err := judge("encrypt", []byte("x"), aad); err == nil {
			t.Errorf("%s: encrypting goes well", name)
		}
		s.Fail(f)
		if _, err := judge("decrypt", ciphertext, aad); err == nil {
			t.Errorf("%s: decrypting goes well", name)
		}
	}
	s.Fail()

	// What connfs sealed, Tink opens, with the AAD that docs/sealed.md says.
	k := kmstest.Keyring(t, kmstest.Settings("gcp", "key", key, "endpoint", s.Address))
	sealed, err := k.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := sealed.Extra.Reveal()
	var form struct {
		Extra struct {
			Key        string
			Ciphertext []byte
		} `json:"kms_extra"`
		Payload []byte
	}
	if err := json.Unmarshal([]byte(text), &form); err != nil {
		t.Fatal(err)
	}
	bound := "7:conn_id,1:a,3:key," + netstring(key) +
		"11:kms_conn_id,4:main,4:mode,8:envelope,7:version,1:1,"
	dataKey, err := judge("decrypt", form.Extra.Ciphertext, []byte(bound))
	if err != nil || form.Extra.Key != key {
		t.Fatalf("the data key of %s: %v", form.Extra.Key, err)
	}
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext64 := base64.StdEncoding.EncodeToString(form.Extra.Ciphertext)
	extra := "10:ciphertext," + netstring(ciphertext64) + "3:key," + netstring(key)
	all := "7:conn_id,1:a,13:connfs_sealed,1:1,6:fields,14:extra,password," +
		"11:kms_conn_id,4:main,9:kms_extra," + netstring(extra) +
		"8:kms_type,3:gcp,4:mode,8:envelope,6:tenant,0:,"
	payload, err := gcm.Open(nil, form.Payload[:12], form.Payload[12:], []byte(all))
	if err != nil || !strings.Contains(string(payload), `"password":`) {
		t.Errorf("the payload: %v", err)
	}
}

func netstring(text string) string { return fmt.Sprintf("%d:%s,", len(text), text) }
