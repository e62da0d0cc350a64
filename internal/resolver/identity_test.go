package resolver_test

import (
	"testing"
	"time"
)

func TestALoginOutlivesItsChild(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = 500 * time.Millisecond
	f := start(t, cfg)
	login := f.get("log in")
	seen := map[int]bool{}
	// Every generation answers with the login that the first one made.
	await(t, "five generations have served", func() bool {
		if got := f.get("log in"); got != login {
			t.Fatal("a child logged in anew")
		}
		seen[f.pid()] = true
		return len(seen) == 5
	})
	if n := f.noted("login"); n != 1 {
		t.Errorf("%d logins", n)
	}
	if f.noted("adopt") < 4 {
		t.Errorf("%d children adopted a login", f.noted("adopt"))
	}
}

func TestALoginSurvivesAPause(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = time.Second
	f := start(t, cfg)
	login := f.get("log in")
	await(t, "the spare has the login of the child that is gone", func() bool {
		return f.noted("adopt") > 0 && len(f.Children()) == 1
	})
	if got := f.get("log in"); got != login {
		t.Error("the next child logged in anew")
	}
}

func TestWithoutALoginNothingIsHandedOver(t *testing.T) {
	cfg := config(t, "")
	cfg.Epoch = time.Second
	f := start(t, cfg)
	await(t, "two children were asked for their logins", func() bool {
		f.pid()
		return f.noted("identity") > 1
	})
	if n := f.noted("adopt"); n != 0 {
		t.Errorf("%d children were given a login that nobody made", n)
	}
}
