package audit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/connfs/connfs/internal/audit"
)

// decoded is what a JSON reader makes of s: a byte that is not UTF-8 becomes U+FFFD.
func decoded(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

func FuzzEntry(f *testing.F) {
	f.Add("a\"},\n{\"uid\":0", "/conn", "config.toml:7", "EACCES", uint64(1)<<63, uint32(1), true)
	f.Add("\u2028\u202e\x7f\xff\xed\xa0\x80", "\\", "\x00", "", uint64(0), uint32(1<<32-1), false)
	f.Fuzz(func(t *testing.T, id, mount, rule, errno string, unique uint64, uid uint32, flag bool) {
		var out bytes.Buffer
		l := audit.NewLog(&out, audit.Config{})
		e := audit.Entry{
			Time: time.Unix(0, 0), Op: rule, Mount: mount, Tenant: id, UID: uid, RunAsUser: mount,
			DAGs: rule, ID: id, Allowed: flag, Rule: rule, Source: id, Sealed: flag, KMS: mount,
			Key: rule, Cached: true, Errno: errno, Unique: unique, Resent: flag,
		}
		if err := l.Write(&e, soon()); err != nil {
			t.Fatal(err)
		}
		l.Close()
		text := out.String()
		if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "}\n") {
			t.Fatalf("not one line: %q", text)
		}
		var got struct {
			Time, Op, Mount, Tenant, Exe, Cgroup, ID, DAGs, Rule, Source, Errno string
			KMS, Key                                                            string
			RunAsUser                                                           string `json:"run_as_user"`
			UID, GID, PID                                                       uint32
			Allowed, Cached, Resent, Sealed                                     bool
			Unique, Count                                                       uint64
			Duration                                                            *uint64 `json:"duration_us"`
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		for _, pair := range [][2]string{
			{id, got.ID}, {id, got.Tenant}, {id, got.Source}, {mount, got.Mount},
			{mount, got.RunAsUser},
			{mount, got.KMS}, {rule, got.Key},
			{rule, got.Op}, {rule, got.DAGs}, {rule, got.Rule}, {errno, got.Errno},
		} {
			if decoded(pair[0]) != pair[1] {
				t.Errorf("%q comes back as %q", pair[0], pair[1])
			}
		}
		if got.UID != uid || got.Unique != unique || got.Allowed != flag || got.Resent != flag ||
			got.Sealed != flag || !got.Cached || got.Count != 1 || got.Duration == nil {
			t.Errorf("%+v of %+v", got, e)
		}
	})
}

func TestHintsNameTheCallersProgramWhereAFetchOrARefusalCostsMore(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pid    uint32
		cached bool
		errno  string
		exe    string
	}{
		{uint32(os.Getpid()), false, "", self},
		{uint32(os.Getpid()), true, "EACCES", self},
		{uint32(os.Getpid()), true, "", ""},
		{0, false, "", ""},
		{1 << 30, false, "", ""},
	} {
		e := audit.Entry{PID: c.pid, Cached: c.cached, Errno: c.errno}
		var out bytes.Buffer
		l := audit.NewLog(&out, audit.Config{Cgroup: true})
		if err := l.Write(&e, soon()); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if e.Exe != c.exe {
			t.Errorf("%+v: exe %q", c, e.Exe)
		}
		if own := c.pid == uint32(os.Getpid()); own != strings.HasPrefix(e.Cgroup, "/") {
			t.Errorf("%+v: cgroup %q", c, e.Cgroup)
		}
	}
}

func TestTimesAreInUTCToTheMicrosecond(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.Unix(0, 999), time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(2024, 2, 29, 1, 2, 3, 40_000, time.FixedZone("", -7*3600)),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(800, 1, 1, 0, 0, 0, 1000, time.UTC),
	} {
		var out bytes.Buffer
		if err := audit.NewLog(&out, audit.Config{}).Write(
			&audit.Entry{Time: at}, soon(),
		); err != nil {
			t.Fatal(err)
		}
		if want := `{"time":"` + at.UTC().Format(
			"2006-01-02T15:04:05.000000Z",
		) + `",`; !strings.HasPrefix(out.String(), want) {
			t.Errorf("%v: want %s in %s", at, want, out.String())
		}
	}
}
