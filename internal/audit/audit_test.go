package audit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/audit"
)

// soon is a deadline that no test reaches.
func soon() time.Time { return time.Now().Add(time.Minute) }

func TestLineHasTheContractsFields(t *testing.T) {
	var out bytes.Buffer
	e := audit.Entry{
		Time: time.Date(2026, 3, 1, 12, 0, 0, 5000, time.FixedZone("x", 3600)), Op: "open",
		Mount: "/conn", Tenant: "acme", UID: 5001, GID: 50, PID: 7, RunAsUser: "billing",
		DAGs: "billing_*", ID: "pg", Allowed: true, Rule: "/etc/connfs/config.toml:7",
		Source: "metastore", Sealed: true, KMS: "main", Key: "alias/a", Cached: true,
		Unique: 12, Duration: 1500 * time.Microsecond,
	}
	if err := audit.NewLog(&out, audit.Config{}).Write(&e, soon()); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-03-01T11:00:00.000005Z","op":"open","mount":"/conn","tenant":"acme","uid":5001,"gid":50,"pid":7,"exe":"","cgroup":"","run_as_user":"billing",` +
		`"dags":"billing_*","id":"pg","allowed":true,"rule":"/etc/connfs/config.toml:7",` +
		`"source":"metastore","sealed":true,"kms":"main","key":"alias/a","cached":true,"errno":"",` +
		`"unique":12,"resent":false,"duration_us":1500,"count":1}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestHostileTextStaysInItsField(t *testing.T) {
	for _, id := range []string{
		"a\"},\n{\"uid\":0", "x\\", "\x00\x1f\x7f", "tab\tnew\nline\r", "\u2028\u2029\u0085",
		"a\u202ebc", "é😀", "\u2066x",
	} {
		var out bytes.Buffer
		if err := audit.NewLog(&out, audit.Config{}).Write(
			&audit.Entry{ID: id, Mount: id, Rule: id}, soon(),
		); err != nil {
			t.Fatal(err)
		}
		line := out.String()
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "}\n") {
			t.Errorf("%q makes more than one line: %q", id, line)
		}
		if strings.ContainsAny(line, "\u2028\u2029\u0085\u202e\u2066\x7f") {
			t.Errorf("%q stands unescaped in %q", id, line)
		}
		var got map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		if diff := cmp.Diff(
			[]any{id, id, id, 0.0}, []any{got["id"], got["mount"], got["rule"], got["uid"]},
		); diff != "" {
			t.Errorf("%q comes back changed:\n%s", id, diff)
		}
	}
}

func TestBytesThatAreNotUTF8AreShown(t *testing.T) {
	var out bytes.Buffer
	audit.NewLog(&out, audit.Config{}).Write(&audit.Entry{ID: "a\xff\xc3"}, soon())
	if !strings.Contains(out.String(), `"id":"a\udcff\udcc3"`) {
		t.Errorf("line: %s", out.String())
	}
}

func TestReopenFollowsARotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, err := audit.Open(audit.Config{File: file})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write := func(id string) {
		t.Helper()
		if err := l.Write(&audit.Entry{ID: id}, soon()); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	write("two") // still the old file: nothing is lost in between
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	write("three")
	for name, want := range map[string][]string{
		file + ".1": {`"one"`, `"two"`}, file: {`"three"`},
	} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(b), "\n"); got != len(want) {
			t.Errorf("%s has %d lines, want %d", name, got, len(want))
		}
		for _, w := range want {
			if !strings.Contains(string(b), w) {
				t.Errorf("%s lacks %s", name, w)
			}
		}
		if st, _ := os.Stat(name); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
	}
}

// A full disk tears a line, and the next daemon must not write on behind it.
func TestAFileThatEndsWithAPartOfALineGetsItsEndFirst(t *testing.T) {
	for _, required := range []bool{false, true} {
		for before, separator := range map[string]string{
			"": "", "{\"id\":\"old\"}\n": "", "{\"id\":\"old\"}\n{\"id\":\"to": "\n", "{": "\n",
		} {
			file := filepath.Join(t.TempDir(), "audit.log")
			write := func(l *audit.Log, id string) {
				t.Helper()
				if err := l.Write(&audit.Entry{ID: id, Cached: true}, soon()); err != nil {
					t.Fatal(err)
				}
			}
			check := func(ids ...string) {
				t.Helper()
				got, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				lines, ok := strings.CutPrefix(string(got), before+separator)
				if !ok || strings.Count(lines, "\n") != len(ids) {
					t.Fatalf("required %v, after %q: %q", required, before, got)
				}
				for _, id := range ids {
					line, rest, _ := strings.Cut(lines, "\n")
					if !strings.HasPrefix(line, "{") || !strings.Contains(line, `"id":"`+id+`"`) {
						t.Errorf("required %v, after %q: %q", required, before, line)
					}
					lines = rest
				}
			}
			prepare := func() {
				if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			prepare()
			l, err := audit.Open(audit.Config{File: file, Required: required})
			if err != nil {
				t.Fatal(err)
			}
			write(l, "one")
			write(l, "two")
			check("one", "two")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			prepare()
			if err := l.Reopen(); err != nil {
				t.Fatal(err)
			}
			write(l, "three")
			check("three")
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOpenRefusesWhatIsNotARegularFile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		dir, link, filepath.Join(dir, "missing", "audit.log"), "/dev/null",
	} {
		if l, err := audit.Open(audit.Config{File: path}); err == nil {
			l.Close()
			t.Errorf("%s was opened", path)
		}
	}
}
