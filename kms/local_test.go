package kms_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
)

// localSettings describes a local KMS with a new key.
func localSettings(t testing.TB) kms.Settings {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, newLocalKey(t), 0o400); err != nil {
		t.Fatal(err)
	}
	return kmstest.Settings("local", "key", path)
}

func newLocalKey(t testing.TB) []byte {
	t.Helper()
	key, _, err := kms.GenerateLocalKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestLocalKeysDiffer(t *testing.T) {
	a, b := newLocalKey(t), newLocalKey(t)
	if len(a) != 45 || a[44] != '\n' || bytes.Equal(a, b) {
		t.Error("not two keys of 32 bytes on a line")
	}
}

func TestLocalKeyFileIsRefusedWithReason(t *testing.T) {
	key := string(newLocalKey(t))
	for _, c := range []struct {
		name    string
		content string
		mode    os.FileMode
		says    string // empty: accepted
	}{
		{"owner alone", key, 0o400, ""},
		{"owner writes", key, 0o600, ""},
		{"group reads", key, 0o440, ""},
		{"no line break", strings.TrimSpace(key), 0o400, ""},
		{"DOS line break", strings.TrimSpace(key) + "\r\n", 0o400, ""},
		{"group writes", key, 0o660, "write"},
		{"others read", key, 0o404, "mode 0404"},
		{"others write", key, 0o602, "can write"},
		{"others execute", key, 0o601, "mode 0601"},
		{"empty", "", 0o400, "does not hold a key"},
		{"short", "c2VjcmV0", 0o400, "does not hold a key"},
		{"two keys", key + key, 0o400, "does not hold a key"},
		{"a comment", "# key\n" + key, 0o400, "does not hold a key"},
		{"another alphabet", strings.Repeat("+/", 21) + "8=", 0o400, "does not hold a key"},
		{"loose bits", strings.Repeat("A", 42) + "B=", 0o400, "does not hold a key"},
		{"endless", strings.Repeat("x", 1<<20), 0o400, "does not hold a key"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := kms.ReadLocalKey(path)
		switch {
		case c.says == "" && (err != nil || string(got) != c.content):
			t.Errorf("%s: %v", c.name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %s", c.name, err, c.says)
		case err != nil && strings.Contains(err.Error(), strings.TrimSpace(key)):
			t.Errorf("%s: the error shows the key", c.name)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		fifo: "not a regular file", t.TempDir(): "not a regular file",
		"/nonexistent/key": "is not there",
	} {
		if _, err := kms.ReadLocalKey(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", path, err, says)
		}
	}
}

// A key that was read beforehand needs no file, and another key says which one is needed.
func TestLocalKeyInSettings(t *testing.T) {
	one := kmstest.Settings("local", "key", "/nonexistent/key")
	one.Contents = map[string]kms.Content{"key": kms.Content(newLocalKey(t))}
	sealed, err := kmstest.Keyring(t, one).Seal(
		t.Context(), "a", kmstest.Sample(), "main", nil, nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kmstest.Keyring(t, one).Unseal(t.Context(), "a", sealed, nil); err != nil {
		t.Error(err)
	}
	two := one
	two.Contents = map[string]kms.Content{"key": kms.Content(newLocalKey(t))}
	_, err = kmstest.Keyring(t, two).Unseal(t.Context(), "a", sealed, nil)
	d, _ := kms.Describe(sealed)
	if conn.KindOf(err) != conn.KeyRejected || !strings.Contains(err.Error(), d.Key) {
		t.Errorf("%v, want it to name the key %s", err, d.Key)
	}
}
