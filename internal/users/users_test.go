package users_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/users"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// script writes an executable shell script.
func script(t *testing.T, body string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	resolvetest.WriteProgram(t, path, []byte("#!/bin/sh\n"+body))
	return []string{"/nonexistent/script", path}
}

// directory is a machine that knows bob, who is not in /etc/passwd.
func directory(t *testing.T) *users.Directory {
	return &users.Directory{
		Getent: script(t, `[ "$#" = 2 ] && [ "$1" = passwd ] || exit 1
case $2 in
bob|1234) echo 'bob:x:1234:100:Bob:/home/bob:/bin/sh' ;;
short) echo 'short:x:1' ;;
uid) echo 'uid:x:4294967296:1::/:' ;;
broken) exit 3 ;;
99) echo 'other:x:98:98::/:' ;;
*) exit 2 ;;
esac
`),
		ID:      script(t, "[ \"$*\" = '-G bob' ] && echo '300 100 20'\n"),
		Timeout: 10 * time.Second,
	}
}

var bob = users.User{
	Name: "bob", UID: 1234, GID: 100, Groups: []uint32{20, 100, 300}, Home: "/home/bob",
}

func TestLookup(t *testing.T) {
	d := directory(t)
	for name, want := range map[string]users.User{"bob": bob} {
		got, err := d.Lookup(context.Background(), name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	got, err := d.LookupUID(context.Background(), 1234)
	if diff := cmp.Diff(bob, got); err != nil || diff != "" {
		t.Errorf("1234: %v (-want +got):\n%s", err, diff)
	}
}

func TestAnUnknownUserIsNotABrokenMachine(t *testing.T) {
	d := directory(t)
	for name, unknown := range map[string]bool{
		"alice": true, "": true, "-h": true, "a:b": true, "a\nb": true,
		"1234": true, " 1234": true, "+1234": true, "-1234": true, // never a uid
		"short": false, "uid": false, "broken": false,
	} {
		_, err := d.Lookup(context.Background(), name)
		if err == nil || errors.Is(err, users.ErrUnknown) != unknown {
			t.Errorf("%q: got %v, want unknown: %v", name, err, unknown)
		}
	}
	for _, uid := range []uint32{7, 99} {
		if _, err := d.LookupUID(context.Background(), uid); !errors.Is(err, users.ErrUnknown) {
			t.Errorf("uid %d: got %v", uid, err)
		}
	}
}

func TestLookupHasADeadline(t *testing.T) {
	d := &users.Directory{Getent: script(t, "sleep 60\n"), Timeout: 100 * time.Millisecond}
	begin := time.Now()
	_, err := d.Lookup(context.Background(), "bob")
	if err == nil || errors.Is(err, users.ErrUnknown) ||
		!strings.Contains(err.Error(), "did not answer within 100ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestLookupGetsNoEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_CONNFS", "1")
	d := directory(t)
	d.Getent = script(t,
		"[ -z \"$SECRET_OF_CONNFS\" ] || exit 1\necho 'bob:x:1234:100:Bob:/home/bob:/bin/sh'\n")
	if _, err := d.Lookup(context.Background(), "bob"); err != nil {
		t.Error(err)
	}
}

func TestWithoutGetentTheLocalFilesCount(t *testing.T) {
	d := &users.Directory{Getent: []string{"/nonexistent/getent"}, Timeout: time.Second}
	got, err := d.Lookup(context.Background(), "root")
	if err != nil || got.UID != 0 || got.Name != "root" || len(got.Groups) == 0 {
		t.Errorf("root: %+v, %v", got, err)
	}
	if got, err := d.LookupUID(context.Background(), 0); err != nil || got.Name != "root" {
		t.Errorf("uid 0: %+v, %v", got, err)
	}
	if _, err := d.Lookup(
		context.Background(), "no-such-user-of-connfs",
	); !errors.Is(err, users.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if _, err := d.LookupUID(
		context.Background(), 3_999_999_999,
	); !errors.Is(err, users.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestThisMachineKnowsRoot(t *testing.T) {
	got, err := users.Lookup(context.Background(), "root")
	if err != nil || got.UID != 0 {
		t.Errorf("root: %+v, %v", got, err)
	}
	if got, err := users.LookupUID(context.Background(), 0); err != nil || got.Name != "root" {
		t.Errorf("uid 0: %+v, %v", got, err)
	}
}
