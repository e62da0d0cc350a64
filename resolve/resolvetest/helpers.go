package resolvetest

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connfs/connfs/conn"
)

// ReplaceFile writes a file that no reader sees in part, with mode 0600.
func ReplaceFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// WriteProgram writes a program that can be started at once. The kernel starts none that is open
// for writing somewhere (ETXTBSY). A process that another test forks meanwhile has all of this
// process's files open until it starts its own program, so none is forked while this one writes.
func WriteProgram(t testing.TB, path string, text []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, text, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

// HostOf returns the host of a connection, by which tests tell connections apart; empty
// where it has no host.
func HostOf(c *conn.Connection) string {
	if c == nil || c.Host == nil {
		return ""
	}
	return *c.Host
}

// WantKind reports an error of another kind than want, and one that shows a secret of these
// tests, or where a server is.
func WantKind(t *testing.T, what string, err error, want conn.Kind) {
	t.Helper()
	if err == nil || conn.KindOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if err != nil {
		t.Logf("%s: %v", what, err)
		for _, secret := range []string{"hunter2", "readerpw", "strangerpw", "localhost",
			"127.0.0.1"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows %q: %v", what, secret, err)
			}
		}
	}
}

// FieldsOf returns the fields of a connection as encoding/json reads the JSON of them.
func FieldsOf(c *conn.Connection) map[string]any {
	text := func(s *string) any {
		if s == nil {
			return nil
		}
		return *s
	}
	secret := func(s conn.Secret) any {
		if v, ok := s.Reveal(); ok {
			return v
		}
		return nil
	}
	fields := map[string]any{
		"conn_type": text(c.Type), "description": text(c.Description), "host": text(c.Host),
		"login": text(c.Login), "password": secret(c.Password), "schema": text(c.Schema),
		"port": nil, "extra": secret(c.Extra),
	}
	if c.Port != nil {
		fields["port"] = float64(*c.Port)
	}
	return fields
}

// Patience is how much longer than it should something may take on a busy machine. What takes
// longer hangs.
const Patience = 20 * time.Second

// Within tries until f succeeds or d has passed, and returns its last error.
func Within(d time.Duration, f func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ObjectOf writes connections as a local file of JSON, which is YAML too.
func ObjectOf(t *testing.T, connections map[string]*conn.Connection) string {
	t.Helper()
	all := make(map[string]any)
	for id, c := range connections {
		fields := FieldsOf(c)
		for name, v := range fields {
			if v == nil {
				delete(fields, name)
			}
		}
		all[id] = fields
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
