//go:build integration

package kms_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
)

// python runs testdata/sealed.py, with the cryptography that Airflow has, on one JSON
// object a line, and returns the JSON texts that it prints.
func python(t *testing.T, verb string, requests []map[string]string) []string {
	t.Helper()
	program := filepath.Join(
		cmp.Or(os.Getenv("CONNFS_TEST_CACHE"), "/opt/connfs-test"), "airflow-2.10.5/bin/python",
	)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	var in, out, messages bytes.Buffer
	e := json.NewEncoder(&in)
	for _, r := range requests {
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "testdata/sealed.py", verb)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, messages.String())
	}
	if verb == "vectors" {
		return []string{out.String()}
	}
	var texts []string
	for line := range strings.Lines(out.String()) {
		var text string
		if err := json.Unmarshal([]byte(line), &text); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	if len(texts) != len(requests) {
		t.Fatalf("%d answers to %d requests", len(texts), len(requests))
	}
	return texts
}

func TestVectorsAreWhatTheProgramWrites(t *testing.T) {
	text, err := os.ReadFile("testdata/sealed.json")
	if err != nil || python(t, "vectors", nil)[0] != string(text) {
		t.Errorf("testdata/sealed.json is not what sealed.py writes: %v", err)
	}
}

// What connfs seals, a reader of the specification in another language opens.
func TestPythonOpensWhatIsSealed(t *testing.T) {
	var requests []map[string]string
	var fields [][]string
	for _, mode := range []string{"envelope", "direct"} {
		for _, id := range []string{"a", "team/bücher 接続", strings.Repeat("x", 250)} {
			for _, names := range [][]string{kms.DefaultFields(), kms.AllFields()} {
				key := newLocalKey(t)
				k := kmstest.Keyring(t, kms.Settings{
					Type: "local", Mode: mode, Contents: map[string]kms.Content{
						"key": kms.Content(key),
					},
				})
				sealed, err := k.Seal(t.Context(), id, kmstest.Sample(), "main", names, nil)
				if err != nil {
					t.Fatal(err)
				}
				form, _ := sealed.Extra.Reveal()
				requests = append(requests, map[string]string{
					"key": strings.TrimSpace(string(key)), "conn_id": id, "form": form,
				})
				fields = append(fields, names)
			}
		}
	}
	sample, err := json.Marshal(kmstest.Fields(kmstest.Sample()))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(sample, &all); err != nil {
		t.Fatal(err)
	}
	for i, payload := range python(t, "open", requests) {
		var got map[string]any
		if err := json.Unmarshal([]byte(payload), &got); err != nil {
			t.Fatal(err)
		}
		want := make(map[string]any)
		for _, name := range fields[i] {
			want[name] = all[name]
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", requests[i]["conn_id"], diff)
		}
	}
}

// Tokens go both ways between connfs and the library inside Airflow; what testdata holds
// are Python's, and these are ours.
func TestPythonDecryptsOurTokens(t *testing.T) {
	random := rand.New(rand.NewPCG(2062, 1))
	var requests []map[string]string
	var want []string
	for i := range 300 {
		keys := strings.TrimSpace(string(newLocalKey(t)))
		if i%3 == 0 {
			keys += "," + strings.TrimSpace(string(newLocalKey(t)))
		}
		plain := make([]byte, random.IntN(200))
		for j := range plain {
			plain[j] = byte(random.Uint32())
		}
		f, err := kms.NewFernet(keys)
		if err != nil {
			t.Fatal(err)
		}
		token, err := f.Encrypt(plain)
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, map[string]string{"key": keys, "token": token})
		want = append(want, base64.StdEncoding.EncodeToString(plain))
	}
	if diff := gocmp.Diff(want, python(t, "fernet", requests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
