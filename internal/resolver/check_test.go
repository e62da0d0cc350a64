package resolver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
)

func TestCheckAsksAChildOfItsOwn(t *testing.T) {
	f := start(t, config(t, ""))
	before := f.Children()
	checks, err := f.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		if len(checks) > 0 && checks[0].Call == fmt.Sprint("pid ", pid) {
			t.Errorf("child %d, which serves reads, was asked", pid)
		}
	}
	want := conn.Check{Name: "fake", Call: "fake:Get", Err: &conn.Error{
		Kind: conn.Denied, Reason: "no right", Hint: "grant it",
	}}
	if len(checks) != 2 {
		t.Fatalf("got %+v", checks)
	}
	same := cmp.Comparer(func(a, b *conn.Error) bool { return *a == *b })
	if diff := cmp.Diff(want, checks[1], same); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
	await(t, "the child that checked is gone", func() bool {
		return len(f.Children()) == len(before)
	})
}

func TestCheckSaysWhyItCannot(t *testing.T) {
	f := start(t, config(t, ""))
	if err := os.WriteFile(filepath.Join(f.dir, "check fails"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := f.Check(t.Context())
	wantKind(t, err, conn.Failed, "no settings")
}
