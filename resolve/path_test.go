package resolve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/backend"
)

// fake is a backend that gives one answer to every id.
type fake struct {
	err  error
	bad  bool // a connection on which get_uri fails
	ids  []string
	hang bool // ignore the context
	hits int

	calls int // of a paged API that a listing takes
}

func (f *fake) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	f.hits++
	if f.hang {
		select {}
	}
	if f.err != nil {
		return nil, f.err
	}
	c := new(conn.Connection)
	if f.bad {
		c.Host = new(string)
		*c.Host = "\xed\xa0\x80" // a lone surrogate
	}
	return c, nil
}

func (f *fake) List(ctx context.Context) ([]string, error) {
	if f.hang {
		select {}
	}
	for range f.calls {
		backend.CountCall(ctx)
	}
	return f.ids, f.err
}

func answering(kind conn.Kind) *fake { return &fake{err: conn.Errorf(kind, "", "as told")} }

// answers are all that a backend can say, by a name for the tables.
var answers = map[string]func() *fake{
	"found":        func() *fake { return &fake{} },
	"absent":       func() *fake { return answering(conn.Absent) },
	"denied":       func() *fake { return answering(conn.Denied) },
	"unreachable":  func() *fake { return answering(conn.Unreachable) },
	"timeout":      func() *fake { return answering(conn.Timeout) },
	"key rejected": func() *fake { return answering(conn.KeyRejected) },
	"invalid":      func() *fake { return &fake{bad: true} },
	"failed":       func() *fake { return &fake{err: errors.New("a value might stand here")} },
}

func newPath(t *testing.T, onError string, backends ...backend.Backend) *resolve.Path {
	t.Helper()
	var entries []resolve.Entry
	for i, b := range backends {
		entries = append(entries, resolve.Entry{Name: string(rune('a' + i)), Backend: b})
	}
	p, err := resolve.NewPath(entries, onError)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every answer of three backends, with the rules as they are written: only absent goes
// on; with "next" all but found do, and the first that was not absent is the error.
func TestPathTruthTable(t *testing.T) {
	for _, onError := range []string{"stop", "next"} {
		for a := range answers {
			for b := range answers {
				for c := range answers {
					given := []string{a, b, c}
					backends := []*fake{answers[a](), answers[b](), answers[c]()}
					p := newPath(t, onError, backends[0], backends[1], backends[2])

					want, from, asked := "absent", "", 3
					for i, s := range given {
						if s == "found" || s != "absent" && onError == "stop" {
							want, from, asked = s, string(rune('a'+i)), i+1
							break
						}
						if s != "absent" && want == "absent" {
							want, from = s, string(rune('a'+i))
						}
					}
					got, source, err := p.Connection(t.Context(), "x")
					result := "found"
					if err != nil {
						result = conn.KindOf(err).String()
					}
					hits := backends[0].hits + backends[1].hits + backends[2].hits
					if result != want || source != from || hits != asked ||
						(got != nil) != (want == "found") {
						t.Errorf("%s %q: %s from %q after %d, want %s from %q after %d", onError,
							given, result, source, hits, want, from, asked)
					}
					if err != nil && strings.Contains(err.Error(), "value might") {
						t.Errorf("an unclassified error is printed: %v", err)
					}
					if err != nil && from != "" && !strings.HasPrefix(err.Error(), from+": ") {
						t.Errorf("%v does not name %q", err, from)
					}
					decision := want + " " + from
					if got := decided(p.Explain(t.Context(), "x")); got != decision {
						t.Errorf("%s %q: explained as %q, want %q", onError, given, got, decision)
					}
				}
			}
		}
	}
}

// decided sums an explanation up.
func decided(answers []resolve.Answer) string {
	result := "absent "
	for _, a := range answers {
		switch {
		case a.Decides && a.Found:
			result = "found " + a.Name
		case a.Decides:
			result = a.Kind.String() + " " + a.Name
		}
	}
	return result
}

// With order "airflow" and on_error "next" the search is Airflow's, which was asked.
func TestPathSearchesAsAirflow(t *testing.T) {
	text, err := os.ReadFile("testdata/airflow_search_order.json")
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Connections []struct{ Backend, Env, Metastore, Winner string }
	}
	if err := json.Unmarshal(text, &data); err != nil || len(data.Connections) < 100 {
		t.Fatalf("%d cases: %v", len(data.Connections), err)
	}
	as := map[string]func() *fake{
		"value": answers["found"], "none": answers["absent"], "empty": answers["absent"],
		"raise": answers["unreachable"], "bad": answers["invalid"], "badjson": answers["invalid"],
		"num": answers["invalid"], "blank": answers["invalid"],
		"denied": answers["denied"], "lost": answers["key rejected"],
	}
	for _, c := range data.Connections {
		var entries []resolve.Entry
		for _, e := range []struct{ name, says string }{{"custom", c.Backend}, {"env", c.Env},
			{"metastore", c.Metastore}} {
			if e.says == "not_configured" {
				continue
			}
			if as[e.says] == nil {
				t.Fatalf("unknown answer %q", e.says)
			}
			entries = append(entries, resolve.Entry{Name: e.name, Backend: as[e.says]()})
		}
		p, err := resolve.NewPath(entries, "next")
		if err != nil {
			t.Fatal(err)
		}
		_, winner, err := p.Connection(t.Context(), "x")
		if err != nil {
			winner = "not_defined"
		}
		if winner != c.Winner {
			t.Errorf("%+v: %s (%v)", c, winner, err)
		}
	}
}

func TestPathDoesNotWaitForABackendThatIgnoresTheDeadline(t *testing.T) {
	p := newPath(t, "stop", answering(conn.Absent), &fake{hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, source, err := p.Connection(ctx, "x")
	if source != "b" || conn.KindOf(err) != conn.Timeout ||
		err.Error() != "b: timeout: no answer within the deadline" {
		t.Errorf("Connection: %q, %v", source, err)
	}
	l, err := newPath(t, "stop", &fake{ids: []string{"x"}}, &fake{hang: true}).List(ctx)
	if err == nil {
		t.Errorf("List after the deadline: %v", l)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	l, err = newPath(t, "stop", &fake{ids: []string{"x"}}, &fake{hang: true}).List(ctx)
	if err != nil || len(l.IDs) != 1 || l.Complete || len(l.Failures) != 1 ||
		conn.KindOf(l.Failures[0].Err) != conn.Timeout {
		t.Errorf("List: %+v, %v", l, err)
	}
}

func TestPathListing(t *testing.T) {
	for _, c := range []struct {
		name     string
		backends []backend.Backend
		want     resolve.Listing
	}{
		{"none", nil, resolve.Listing{Complete: true}},
		{"sorted, each once, no empty id",
			[]backend.Backend{&fake{ids: []string{"c", "a", ""}}, &fake{ids: []string{"b", "a"}}},
			resolve.Listing{IDs: []string{"a", "b", "c"}, Complete: true}},
		{"one is down", []backend.Backend{&fake{ids: []string{"c"}}, answering(conn.Unreachable)},
			resolve.Listing{IDs: []string{"c"}, Failures: []resolve.Failure{{Name: "b"}}}},
		{"one cannot list", []backend.Backend{noLister{}, &fake{ids: []string{"c"}}},
			resolve.Listing{IDs: []string{"c"}, Failures: []resolve.Failure{{Name: "a"}}}},
		{"each counts its calls",
			[]backend.Backend{&fake{ids: []string{"a"}, calls: 3}, &fake{calls: 2}},
			resolve.Listing{IDs: []string{"a"}, Complete: true, Calls: 5}},
	} {
		got, err := newPath(t, "stop", c.backends...).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Failures {
			if got.Failures[i].Err == nil {
				t.Errorf("%s: a failure without an error", c.name)
			}
			got.Failures[i].Err = nil
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

type noLister struct{}

func (noLister) Connection(context.Context, string) (*conn.Connection, error) {
	return new(conn.Connection), nil
}

// at returns a place whose backend has that name.
func at(name string) resolve.Place {
	return func() (backend.Backend, string, error) { return answering(conn.Absent), name, nil }
}

func TestPathRefusesWhatItCannotHonour(t *testing.T) {
	broken := func() (backend.Backend, string, error) {
		return nil, "", errors.New("no such place")
	}
	named := func() (backend.Backend, string, error) {
		return nil, "vault", errors.New("no such place")
	}
	for name, c := range map[string]struct {
		options resolve.Options
		places  resolve.Places
		want    string
	}{
		"order":    {resolve.Options{Order: "mine"}, resolve.Places{}, `order "mine" is neither "aip-33" nor "airflow"`},
		"on_error": {resolve.Options{OnError: "ignore"}, resolve.Places{}, `on_error "ignore" is neither "stop" nor "next"`},
		"place": {resolve.Options{}, resolve.Places{Metastore: broken},
			"opening the metastore: no such place"},
		"place with a known store": {resolve.Options{}, resolve.Places{Alternative: named},
			"opening the vault: no such place"},
	} {
		if _, err := resolve.Open(c.options, c.places); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// asked returns the names of the backends in the order in which they are asked.
func asked(t *testing.T, p *resolve.Path) []string {
	t.Helper()
	var names []string
	for _, a := range p.Explain(t.Context(), "x") {
		names = append(names, a.Name)
	}
	return names
}

func TestPathIsSearchedInOrder(t *testing.T) {
	for _, c := range []struct {
		order       string
		alternative resolve.Place
		want        []string
	}{
		{"", nil, []string{"environment", "metastore"}},
		{"aip-33", nil, []string{"environment", "metastore"}},
		{"airflow", nil, []string{"environment", "metastore"}},
		{"", at("vault"), []string{"vault", "metastore", "environment"}},
		{"aip-33", at("vault"), []string{"vault", "metastore", "environment"}},
		{"airflow", at("vault"), []string{"vault", "environment", "metastore"}},
	} {
		p, err := resolve.Open(resolve.Options{Order: c.order}, resolve.Places{
			Alternative: c.alternative, Metastore: at("metastore"), Environment: at("environment"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, asked(t, p)); diff != "" {
			t.Errorf("order %q (-want +got):\n%s", c.order, diff)
		}
	}
}

func ExamplePath_Explain() {
	p, _ := resolve.NewPath([]resolve.Entry{{Name: "environment", Backend: answering(conn.Absent)},
		{Name: "metastore", Backend: &fake{}}}, "stop")
	for _, a := range p.Explain(context.Background(), "my_db") {
		fmt.Println(a.Name, a.Found, a.Decides, a.Reason)
	}
	// Output:
	// environment false false as told
	// metastore true true
}
