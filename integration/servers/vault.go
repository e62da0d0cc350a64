package servers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Vault is a HashiCorp Vault server (integration/minivault). It has no secrets engine
// until one is mounted, and forgets everything when it ends.
type Vault struct {
	*process
	URL   string // http://127.0.0.1:PORT
	Token string // of root

	unsealKey string
}

// StartVault starts a server that t stops at its end.
func StartVault(t testing.TB) *Vault {
	t.Helper()
	return startVault(t, "http", loopback, nil)
}

// StartVaultTLS starts one that speaks TLS, with a certificate for localhost.
func StartVaultTLS(t testing.TB) (*Vault, Certificates) {
	t.Helper()
	a := accountNamed(t, "nobody", "base-passwd")
	c := newCertificates(t, a, a.dir(t))
	return startVault(t, "https", "localhost", []string{"-cert", c.Cert, "-key", c.Key}), c
}

func startVault(t testing.TB, scheme, host string, args []string) *Vault {
	t.Helper()
	path := filepath.Join(cache(), "bin/minivault")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	a := accountNamed(t, "nobody", "base-passwd")
	port := strconv.Itoa(freePort(t))
	v := &Vault{URL: fmt.Sprintf("%s://%s:%s", scheme, host, port), Token: newPassword()}
	v.process = &process{
		t: t, account: a, path: path, log: filepath.Join(a.dir(t), "log"),
		args: append([]string{"-listen", loopback + ":" + port, "-token", v.Token}, args...),
		ready: func() error {
			text, err := os.ReadFile(v.log)
			if err != nil {
				return err
			}
			var started struct {
				UnsealKey string `json:"unseal_key"`
			}
			// The first line that is JSON; warnings may come before it.
			for line := range strings.Lines(string(text)) {
				if json.Unmarshal([]byte(line), &started) == nil && started.UnsealKey != "" {
					v.unsealKey = started.UnsealKey
					return nil
				}
			}
			return fmt.Errorf("minivault has not said that it is ready")
		},
	}
	t.Cleanup(func() { v.end(syscall.SIGKILL) })
	v.start()
	return v
}

// Do sends a request of root's with a JSON body, nil for none, to a path such as
// "/v1/sys/mounts/secret", and returns the decoded answer, nil where it is empty. What
// is not a success fails the test.
func (v *Vault) Do(method, path string, body any) map[string]any {
	v.t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			v.t.Fatal(err)
		}
	}
	u, err := url.Parse(v.URL)
	if err != nil {
		v.t.Fatal(err)
	}
	u.Path = path
	r, err := http.NewRequest(method, u.String(), bytes.NewReader(text))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", v.Token)
	client := http.Client{Timeout: startTimeout}
	answer, err := client.Do(r)
	if err != nil {
		v.t.Fatalf("Vault: %v", err)
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode/100 != 2 {
		v.t.Fatalf("Vault: %s %s: %s %v\n%.500s", method, path, answer.Status, err, out)
	}
	if len(out) == 0 {
		return nil
	}
	var decoded map[string]any
	if err := json.Unmarshal(out, &decoded); err != nil {
		v.t.Fatal(err)
	}
	return decoded
}

// Mount mounts a kv engine of a version, 1 or 2.
func (v *Vault) Mount(path string, version int) {
	v.t.Helper()
	v.Do("POST", "/v1/sys/mounts/"+path, map[string]any{
		"type": "kv", "options": map[string]string{"version": strconv.Itoa(version)},
	})
}

// Seal makes the server refuse everything until [Vault.Unseal].
func (v *Vault) Seal() { v.t.Helper(); v.Do("PUT", "/v1/sys/seal", nil) }

// Unseal opens the server again.
func (v *Vault) Unseal() {
	v.t.Helper()
	v.Do("PUT", "/v1/sys/unseal", map[string]string{"key": v.unsealKey})
}
