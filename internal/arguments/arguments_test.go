package arguments_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/arguments"
)

func TestArgumentsAreTakenAsWhatTheyMustBe(t *testing.T) {
	text := func(o *arguments.Object) { o.Text("a", "") }
	list := func(o *arguments.Object) { o.List("a") }
	for name, c := range map[string]struct {
		text string
		take func(o *arguments.Object)
		want string // all that is wrong
	}{
		"a string":                   {`{"a": "x"}`, text, ""},
		"null is the same as absent": {`{"a": null}`, text, ""},
		"no string":                  {`{"a": 5}`, text, "a: expected a string"},
		"no list":                    {`{"a": {}}`, list, "a: expected a list"},
		"unknown, null too": {`{"b": 1, "a": null}`, func(*arguments.Object) {},
			"a: connfs does not know this argument\nb: connfs does not know this argument"},
		"ignored": {`{"a": 1}`, func(o *arguments.Object) { o.Ignore("a") }, ""},
		"missing": {`{"a": ""}`, func(o *arguments.Object) { o.Need("a", "it is needed") },
			"a: it is needed"},
		"a number": {`{"a": 1.5}`, func(o *arguments.Object) { o.Number("a") }, ""},
		"a number that is too low": {`{"a": -1}`, func(o *arguments.Object) { o.Number("a") },
			"a: expected a number"},
		"one of some": {`{"a": 2.0}`, func(o *arguments.Object) { o.Choice("a", 1, 1, 2) }, ""},
		"not one of some": {`{"a": 3}`, func(o *arguments.Object) { o.Choice("a", 1, 1, 2) },
			"a: expected one of 1 2"},
		"no URL": {`{"a": "host"}`, func(o *arguments.Object) { o.URL("a") },
			"a: expected a URL that begins with http:// or https://"},
		"within an object": {`{"a": {"b": {"c": 1, "d": 2}}}`, func(o *arguments.Object) {
			b := o.Object("a").Object("b")
			b.Text("c", "")
			b.RefuseRest()
		}, "a.b.c: expected a string\na.b.d: connfs cannot honour this argument"},
		"within a list": {`{"a": [{"b": 1}]}`, func(o *arguments.Object) {
			for _, one := range o.List("a") {
				o.In("a", one).Text("b", "")
			}
		}, "a.b: expected a string"},
		"no object": {`{"a": []}`, func(o *arguments.Object) { o.Object("a").Text("b", "") },
			"a: expected an object"},
	} {
		values, err := arguments.Decode(c.text)
		if err != nil {
			t.Fatal(err)
		}
		o := arguments.New(values)
		c.take(o)
		var got string
		if err := o.Err(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestDefaultsStandWhereNothingIsGiven(t *testing.T) {
	o := arguments.New(map[string]any{"null": nil, "set": "x"})
	type optional struct {
		text    string
		enabled bool
	}
	pair := func(text string, enabled bool) optional { return optional{text, enabled} }
	got := []any{
		o.Text("null", "d"), o.Text("absent", "d"), o.Text("set", "d"),
		pair(o.Optional("null", "d")), pair(o.Optional("absent", "d")),
		o.Boolean("absent", true), o.Choice("absent", 2, 1, 2),
	}
	want := []any{"d", "d", "x", optional{"", false}, optional{"d", true}, true, 2}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(optional{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOnlyOneObjectIsDecoded(t *testing.T) {
	for text, want := range map[string]string{
		"": "", " \n": "", "null": "", `{"a": 1}`: "",
		`{"s3cret": `:      "it is not JSON: its end is missing",
		"{\n  s3cret: 1}":  "it is not JSON from line 2, column 3 on",
		`{"s3cret": 1} {}`: "it is not JSON: something follows its end, at line 1, column 14",
		`{"a": 1}}`:        "it is not JSON: something follows its end, at line 1, column 9",
		`["s3cret"]`:       "it is not a JSON object",
	} {
		_, err := arguments.Decode(text)
		if got := strings.TrimPrefix(errorText(err), "<nil>"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}
