package resolver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/resolver"
)

func TestCheckAsksAChildOfItsOwn(t *testing.T) {
	f := start(t, config(t, ""))
	before := f.Children()
	checks, err := f.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		if len(checks) > 0 && checks[0].Reason == fmt.Sprint(pid) {
			t.Errorf("child %d, which serves reads, was asked", pid)
		}
	}
	want := resolver.Checked{
		Name: "fake", Call: "fake:Get", Result: "denied", Kind: conn.Denied, Reason: "no right",
		Hint: "grant it",
	}
	if len(checks) != 2 {
		t.Fatalf("got %+v", checks)
	}
	if diff := cmp.Diff(want, checks[1]); diff != "" {
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
