// Package resolvetest is what every secrets backend must do, as a test suite.
package resolvetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// Harness makes the backends under test.
type Harness struct {
	// New returns a backend whose store holds exactly these connections by id.
	New func(t *testing.T, connections map[string]*conn.Connection) backend.Backend
	// Unreachable returns one whose store is not there.
	Unreachable func(t *testing.T) backend.Backend
	// Holds says which ids the store can hold; nil: any.
	Holds func(id string) bool
	// NoDescription says that the store keeps no descriptions.
	NoDescription bool
}

// prompt is how long a backend may take to notice that its caller gave up.
const prompt = 2 * time.Second

// Run tests the backend that h makes.
func Run(t *testing.T, h Harness) {
	t.Run("a connection is found with all its fields", h.found)
	t.Run("an id counts byte for byte", h.exactID)
	t.Run("any id is answered", h.hostileIDs)
	t.Run("a caller who gives up is let go, and not told absent", h.canceled)
	t.Run("the list agrees with the look-ups", h.list)
	t.Run("an unreachable store is not absent", h.unreachable)
	t.Run("many callers are served at once", h.concurrent)
}

func (h Harness) sample() map[string]*conn.Connection {
	all := sample()
	maps.DeleteFunc(all,
		func(id string, _ *conn.Connection) bool { return h.Holds != nil && !h.Holds(id) })
	for _, c := range all {
		if h.NoDescription {
			c.Description = nil
		}
	}
	return all
}

func sample() map[string]*conn.Connection {
	text := func(s string) *string { return &s }
	port := int64(5432)
	return map[string]*conn.Connection{
		"plain": {
			Type: text("postgres"), Description: text("billing"), Host: text("db.example"),
			Login: text("user"), Password: conn.NewSecret("p w/@:%é"), Schema: text("sales"),
			Port: &port, Extra: conn.NewSecret(`{"sslmode": "require"}`),
		},
		"Mixed.Case-1": {Type: text("http"), Host: text("a.example"),
			Password: conn.NewSecret("x")},
		"team/db":    {Type: text("mysql"), Login: text("only")},
		"with:colon": {Type: text("ssh"), Host: text("h")},
		"bücher_接続":  {Type: text("ftp"), Host: text("bücher.example")},
	}
}

func (h Harness) found(t *testing.T) {
	want := h.sample()
	b := h.New(t, want)
	for id, c := range want {
		got, err := b.Connection(t.Context(), id)
		if err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		if diff := cmp.Diff(reveal(c), reveal(got)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", id, diff)
		}
	}
}

func (h Harness) exactID(t *testing.T) {
	b := h.New(t, h.sample())
	for _, id := range []string{
		"PLAIN", "Plain", "plain ", "plain  ", " plain", "plain\t", "plain\n", "plain\x00",
		"plain\x00x", "\x00plain", "plaın", "pláin", "plain%", "pla_n", "plai%", "plain;", "plain'",
		"mixed.case-1", "team//db",
		"team/./db", "team\\db", "bucher_接続", "nothing",
	} {
		wantAbsent(t, b, id)
	}
}

func (h Harness) hostileIDs(t *testing.T) {
	b := h.New(t, h.sample())
	for _, id := range []string{
		"", "\x00", "\n", "\xff\xfe", "a\xc3", "\xed\xa0\x80", "😀🔑", "'; DROP TABLE connection; --",
		`\`, `\'`, `"`, "`", "%s", "$1", "?", ":id", "a=b",
		"../../etc/passwd", string(make([]byte, 1000)), string(slices.Repeat([]byte("x"), 100_000)),
	} {
		wantAbsent(t, b, id)
	}
}

func wantAbsent(t *testing.T, b backend.Backend, id string) {
	t.Helper()
	if _, err := b.Connection(t.Context(), id); err == nil || conn.KindOf(err) != conn.Absent {
		t.Errorf("%.40q: error %v, want absent", id, err)
	}
}

func (h Harness) canceled(t *testing.T) {
	b := h.New(t, h.sample())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{canceled, expired} {
		for _, id := range []string{"plain", "nothing"} {
			start := time.Now()
			_, err := b.Connection(ctx, id)
			if took := time.Since(start); took > prompt {
				t.Errorf("%v: answered after %v", ctx.Err(), took)
			}
			if err == nil || conn.KindOf(err) != conn.Timeout {
				t.Errorf("%v: %v, want a timeout", ctx.Err(), err)
			}
		}
		if l, ok := b.(backend.Lister); ok {
			if _, err := l.List(ctx); err == nil || conn.KindOf(err) != conn.Timeout {
				t.Errorf("%v: list: %v, want a timeout", ctx.Err(), err)
			}
		}
	}
	if _, err := b.Connection(t.Context(), "plain"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func (h Harness) list(t *testing.T) {
	want := h.sample()
	b := h.New(t, want)
	l, ok := b.(backend.Lister)
	if !ok {
		return // not every backend can list
	}
	got, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if diff := cmp.Diff(ids(want), got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	for _, id := range got {
		if _, err := b.Connection(t.Context(), id); err != nil {
			t.Errorf("%q is listed: %v", id, err)
		}
	}
	got, err = h.New(t, nil).(backend.Lister).List(t.Context())
	if err != nil || len(got) > 0 {
		t.Errorf("an empty store lists %q, %v", got, err)
	}
}

func (h Harness) unreachable(t *testing.T) {
	b := h.Unreachable(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := b.Connection(ctx, "plain")
	if kind := conn.KindOf(err); err == nil || kind != conn.Unreachable && kind != conn.Denied {
		t.Errorf("%v, want unreachable or denied", err)
	}
	if l, ok := b.(backend.Lister); ok {
		got, err := l.List(ctx)
		if kind := conn.KindOf(err); err == nil || kind != conn.Unreachable && kind != conn.Denied {
			t.Errorf("list: %q, %v, want unreachable or denied", got, err)
		}
	}
}

func (h Harness) concurrent(t *testing.T) {
	want := h.sample()
	b := h.New(t, want)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for id := range want {
				if _, err := b.Connection(t.Context(), id); err != nil {
					t.Errorf("%q: %v", id, err)
				}
				if _, err := b.Connection(t.Context(), id+"?"); conn.KindOf(err) != conn.Absent {
					t.Errorf("%q: %v, want absent", id+"?", err)
				}
			}
		})
	}
	wg.Wait()
}

func ids(connections map[string]*conn.Connection) []string {
	var all []string
	for id := range connections {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// reveal returns the fields in a form that can be compared. The values are the suite's
// own, not secrets.
func reveal(c *conn.Connection) map[string]string {
	m := make(map[string]string)
	for name, v := range map[string]*string{"type": c.Type, "description": c.Description,
		"host": c.Host, "login": c.Login, "schema": c.Schema} {
		if v != nil {
			m[name] = *v
		}
	}
	for name, v := range map[string]conn.Secret{"password": c.Password, "extra": c.Extra} {
		if text, ok := v.Reveal(); ok {
			m[name] = text
		}
	}
	if c.Port != nil {
		m["port"] = fmt.Sprint(*c.Port)
	}
	return m
}

// Open opens an alternative backend by itself with these arguments. It is closed at the
// end of the test.
func Open(t testing.TB, open backend.Opener, kwargs map[string]any) backend.Backend {
	t.Helper()
	b, err := backend.Open(&backend.Secrets{Kwargs: Kwargs(t, kwargs)}, open)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := b.(io.Closer); ok {
		t.Cleanup(func() { c.Close() })
	}
	return b
}

// Kwargs returns the text of backend_kwargs.
func Kwargs(t testing.TB, kwargs map[string]any) string {
	t.Helper()
	text, err := json.Marshal(kwargs)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
