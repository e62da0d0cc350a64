package dags_test

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/dags"
)

// doc1 is a document of Airflow 2 for the DAG "d" with these tasks.
func doc1(tasks ...string) string {
	return `{"__version":1,"dag":{"_dag_id":"d","tasks":[` + strings.Join(tasks, ",") + `]}}`
}

// task is an operator with these further attributes.
func task(attributes string) string {
	return `{"__type":"operator","__var":{"task_id":"t"` + attributes + `}}`
}

func parseText(t testing.TB, text string) []dags.DAG {
	t.Helper()
	found, err := dags.Parse(dags.Document{ID: "d", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func deflate(text string) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.Bytes()
}

func reason(t *testing.T, d dags.Document) string {
	t.Helper()
	found, err := dags.Parse(d)
	if err == nil {
		return fmt.Sprintf("%+v", found)
	}
	if found != nil {
		t.Errorf("an error, and DAGs: %+v", found)
	}
	if conn.KindOf(err) != conn.Invalid {
		t.Errorf("kind %v", conn.KindOf(err))
	}
	return strings.TrimPrefix(err.Error(), "metastore: invalid: ")
}

func TestUsersOfTasks(t *testing.T) {
	for _, c := range []struct {
		name, task string
		users      []string
		unnamed    bool
		skipped    string // reason
	}{
		{name: "a name", task: task(`,"run_as_user":"etl"`), users: []string{"etl"}},
		{
			name: "as Airflow before 2.10 writes it", task: `{"task_id":"t","run_as_user":"etl"}`,
			users: []string{"etl"},
		},
		{name: "none", task: task(``), unnamed: true},
		{name: "null", task: task(`,"run_as_user":null`), unnamed: true},
		{name: "empty", task: task(`,"run_as_user":""`), unnamed: true},
		{name: "digits are a name", task: task(`,"run_as_user":"1234"`), users: []string{"1234"}},
		{name: "a uid", task: task(`,"run_as_user":"#1234"`), users: []string{"#1234"}},
		{
			name: "a uid with zeros before it", task: task(`,"run_as_user":"#007"`),
			users: []string{"#7"},
		},
		{
			name: "uid 0 with zeros", task: task(`,"run_as_user":"#000"`),
			skipped: "uid 0 is not granted implicitly",
		},
		{
			name: "the largest uid", task: task(`,"run_as_user":"#4294967294"`),
			users: []string{"#4294967294"},
		},
		{
			name: "nobody", task: task(`,"run_as_user":"#65534"`),
			skipped: "uid 65534 is not granted implicitly",
		},
		{
			name: "digits of another script", task: task(`,"run_as_user":"#١٢٣"`),
			skipped: "not a uid",
		},
		{
			name: "a domain", task: task(`,"run_as_user":"CORP\\svc etl$"`),
			users: []string{`CORP\svc etl$`},
		},
		{name: "blank at the end", task: task(`,"run_as_user":"etl "`), skipped: "not a user name"},
		{
			name: "no-break space", task: task(`,"run_as_user":"et\u00a0l"`),
			skipped: "not a user name",
		},
		{
			name: "zero-width space", task: task(`,"run_as_user":"et\u200bl"`),
			skipped: "not a user name",
		},
		{
			name: "256 bytes", task: task(`,"run_as_user":"` + strings.Repeat("é", 128) + `"`),
			skipped: "not a user name",
		},
		{
			name: "mapped",
			task: task(`,"_is_mapped":true,"run_as_user":"outer","partial_kwargs":` +
				`{"run_as_user":"inner"},"expand_input":{"run_as_user":["x"]}`),
			users: []string{"inner"},
		},
		{
			name:    "mapped without a user",
			task:    task(`,"_is_mapped":true,"run_as_user":"outer","partial_kwargs":{}`),
			unnamed: true,
		},
		{
			name: "not mapped",
			task: task(`,"_is_mapped":false,"run_as_user":"outer","partial_kwargs":` +
				`{"run_as_user":"inner"}`),
			users: []string{"outer"},
		},
		{
			name: "neither mapped nor not", task: task(`,"_is_mapped":1,"run_as_user":"outer"`),
			skipped: "task is not an operator",
		},
		{
			name: "without an id", task: `{"__type":"operator","__var":{"run_as_user":"etl"}}`,
			skipped: "task is not an operator",
		},
		{
			name:    "a wrapped name is no name",
			task:    task(`,"run_as_user":{"__type":"str","__var":"etl"}`),
			skipped: "run_as_user is not text",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parseText(t, doc1(c.task))[0]
			if !slices.Equal(d.Users, c.users) || d.Unnamed != c.unnamed {
				t.Errorf("users %q, unnamed %v; want %q, %v",
					d.Users, d.Unnamed, c.users, c.unnamed)
			}
			var skipped string
			for _, s := range d.Skipped {
				skipped += s.Reason
			}
			if skipped != c.skipped {
				t.Errorf("skipped %q, want %q", skipped, c.skipped)
			}
		})
	}
}

func TestClientDefaultsFillInWhatIsMissing(t *testing.T) {
	const document = `{"__version":%s,"client_defaults":%s,` +
		`"dag":{"_dag_id":"d","dag_id":"d","tasks":[{"task_id":"missing"},` +
		`{"task_id":"mapped","_is_mapped":true,"partial_kwargs":{}},` +
		`{"task_id":"null","run_as_user":null},{"task_id":"own","run_as_user":"own"}]}}`
	for _, c := range []struct {
		version, defaults string
		users             []string
		unnamed           bool
		skipped           int
	}{
		{"3", `{"tasks":{"run_as_user":"cd"}}`, []string{"cd", "own"}, true, 0},
		{"3", `{"tasks":{}}`, []string{"own"}, true, 0},
		{"3", `{}`, []string{"own"}, true, 0},
		{"3", `{"tasks":{"run_as_user":7}}`, []string{"own"}, true, 2},
		{"2", `{"tasks":{"run_as_user":"cd"}}`, []string{"own"}, true, 0},
		{"1", `{"tasks":{"run_as_user":"cd"}}`, []string{"own"}, true, 0},
	} {
		d := parseText(t, fmt.Sprintf(document, c.version, c.defaults))[0]
		if !slices.Equal(d.Users, c.users) || d.Unnamed != c.unnamed ||
			len(d.Skipped) != c.skipped {
			t.Errorf("version %s, %s: %+v", c.version, c.defaults, d)
		}
	}
	for _, bad := range []string{`[]`, `null`, `"x"`, `{"tasks":[]}`, `{"tasks":null}`} {
		got := reason(t, dags.Document{ID: "d", Data: fmt.Appendf(nil, document, "3", bad)})
		if got != "client_defaults is not an object" {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

func TestSubDAGsHaveIDsOfTheirOwn(t *testing.T) {
	sub := func(id, user, more string) string {
		return `{"_dag_id":"` + id + `","tasks":[{"task_id":"in","run_as_user":"` + user + `"}` +
			more + `]}`
	}
	operator := func(id, subdag string) string {
		return `{"task_id":"` + id + `","run_as_user":"parent","subdag":` + subdag + `}`
	}
	inner := `,` + operator("b", sub("d.a.b", "grandchild", ""))
	found := parseText(t, doc1(
		operator("a", sub("d.a", "child", inner)),
		operator("wrapped", `{"__type":"dag","__var":`+sub("d.wrapped", "child2", "")+`}`),
		operator("liar", sub("other", "mallory", "")),
		operator("liar2", sub("d.a", "mallory", "")),
		operator("broken", `{"_dag_id":"d.broken"}`),
		operator("text", `"x"`),
	))
	got := make(map[string][]string)
	for _, d := range found {
		got[d.ID] = append(got[d.ID], d.Users...)
	}
	want := map[string][]string{
		"d": {"parent"}, "d.a": {"child", "parent"}, "d.a.b": {"grandchild"},
		"d.wrapped": {"child2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if found[0].ID != "d" || len(found[0].Skipped) != 4 {
		t.Errorf("the first is %+v", found[0])
	}
	// Airflow 3 has no SubDAGs.
	three := parseText(t, `{"__version":3,"dag":{"dag_id":"d","tasks":[`+
		operator("a", sub("d.a", "child", ""))+`]}}`)
	if len(three) != 1 || !slices.Equal(three[0].Users, []string{"parent"}) {
		t.Errorf("version 3: %+v", three)
	}
}

func TestDocumentsThatLoseTheirDAG(t *testing.T) {
	users := make([]string, 1001)
	for i := range users {
		users[i] = task(`,"run_as_user":"u` + strconv.Itoa(i) + `"`)
	}
	for _, c := range []struct {
		name     string
		document dags.Document
		want     string
	}{
		{"an id with a blank", dags.Document{ID: "a b", Data: []byte(doc1())}, "not a DAG id"},
		{"no id", dags.Document{Data: []byte(doc1())}, "not a DAG id"},
		{
			"a long id", dags.Document{ID: strings.Repeat("x", 251), Data: []byte(doc1())},
			"not a DAG id",
		},
		{"no document", dags.Document{ID: "d"}, "no document"},
		{"empty", dags.Document{ID: "d", Data: []byte{}}, "not JSON"},
		{"inflates to nothing", dags.Document{ID: "d", Compressed: deflate("")}, "not JSON"},
		{
			"a bomb", dags.Document{ID: "d", Compressed: deflate(strings.Repeat(" ", 40<<20))},
			"too large",
		},
		{"large", dags.Document{ID: "d", Data: bytes.Repeat([]byte(" "), 40<<20)}, "too large"},
		{
			"version 0", dags.Document{ID: "d", Data: []byte(`{"__version":0}`)},
			"unknown serialization version",
		},
		{
			"version 4", dags.Document{ID: "d", Data: []byte(`{"__version":4}`)},
			"unknown serialization version",
		},
		{
			"version true", dags.Document{ID: "d", Data: []byte(`{"__version":true}`)},
			"unknown serialization version",
		},
		{
			"version 1.0", dags.Document{ID: "d", Data: []byte(`{"__version":1.0}`)},
			"unknown serialization version",
		},
		{
			"id of another format",
			dags.Document{ID: "d", Data: []byte(`{"__version":1,"dag":{"dag_id":"d","tasks":[]}}`)},
			"document is of another DAG",
		},
		{
			"id in other case",
			dags.Document{
				ID: "d", Data: []byte(`{"__version":1,"dag":{"_dag_id":"D","tasks":[]}}`),
			},
			"document is of another DAG",
		},
		{
			"two lists of tasks",
			dags.Document{
				ID:   "d",
				Data: []byte(`{"__version":1,"dag":{"_dag_id":"d","tasks":[],"t\u0061sks":[]}}`),
			},
			"duplicate key",
		},
		{
			"two users",
			dags.Document{
				ID: "d", Data: []byte(doc1(task(`,"run_as_user":"a","run_as_user":"a"`))),
			},
			"duplicate key",
		},
		{"too many users", dags.Document{ID: "d", Data: []byte(doc1(users...))}, "too many users"},
		{
			"too many tasks",
			dags.Document{ID: "d", Data: []byte(doc1(strings.Repeat("0,", 100_000) + "0"))},
			"too many tasks",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := reason(t, c.document); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestCompressedDocumentsAreLookedAtFirst(t *testing.T) {
	plain, other := doc1(task(`,"run_as_user":"plain"`)), doc1(task(`,"run_as_user":"compressed"`))
	for _, c := range []struct {
		name     string
		document dags.Document
		want     string
	}{
		{"plain", dags.Document{ID: "d", Data: []byte(plain)}, "plain"},
		{
			"compressed", dags.Document{ID: "d", Data: []byte("null"), Compressed: deflate(other)},
			"compressed",
		},
		{
			"both", dags.Document{ID: "d", Data: []byte(plain), Compressed: deflate(other)},
			"compressed",
		},
		{
			"nothing compressed", dags.Document{ID: "d", Data: []byte(plain), Compressed: []byte{}},
			"plain",
		},
	} {
		found, err := dags.Parse(c.document)
		if err != nil || !slices.Equal(found[0].Users, []string{c.want}) {
			t.Errorf("%s: %+v, %v", c.name, found, err)
		}
	}
}

func TestConnectionsThatDocumentsShow(t *testing.T) {
	for _, c := range []struct {
		name, task string
		want       []string
	}{
		{
			"template field", task(`,"template_fields":["aws_conn_id"],"aws_conn_id":"a"`),
			[]string{"a"},
		},
		{"not a template field", task(`,"template_fields":["sql"],"aws_conn_id":"a"`), nil},
		{
			"a template as an id",
			task(`,"template_fields":["aws_conn_id"],"aws_conn_id":"{{ params.c }}"`), nil,
		},
		{
			"an id from a template",
			task(`,"template_fields":["aws_conn_id"],"aws_conn_id":"{{ conn.b.host }}"`),
			[]string{"b"},
		},
		{
			"attribute",
			task(`,"template_fields":["q"],"q":"x {{ conn.a.host }} y {{conn.b}} {% if conn.c %}"`),
			[]string{"a", "b", "c"},
		},
		{
			"get",
			task(`,"template_fields":["q"],"q":"{{ conn.get('a-b').host }}{{ conn.get( \"c d\" ` +
				`) }}{{ conn.get(x) }}"`),
			[]string{"a-b", "c d"},
		},
		{
			"subscript",
			task(`,"template_fields":["q"],"q":"{{ conn['a/b'].host }}{{ conn[\"c\"] }}{{ conn` +
				`[x] }}"`),
			[]string{"a/b", "c"},
		},
		{
			"outside of Jinja",
			task(`,"template_fields":["q"],"q":"conn.a } {{ x }} conn.b { conn.c }"`), nil,
		},
		{"never closed", task(`,"template_fields":["q"],"q":"{{ conn.a "`), nil},
		{
			"another name",
			task(`,"template_fields":["q"],"q":"{{ jconn.a }}{{ my.conn.b }}{{ connection.c }}"`),
			nil,
		},
		{
			"nested",
			task(`,"template_fields":["op_kwargs"],"op_kwargs":{"x":[{"y":{"z_conn_id":"a",` +
				`"conn_ids":["b","c",1]}}]}`),
			[]string{"a", "b", "c"},
		},
		{
			"positional",
			task(`,"template_fields":["op_args"],"op_args":["a_b",1,"two words","2024-01-01",` +
				`["in"]]`),
			[]string{"a_b"},
		},
		{
			"partial",
			task(`,"_is_mapped":true,"partial_kwargs":{"x_conn_id":"a","op_kwargs":` +
				`{"__type":"dict","__var":{"conn_id":"b"}}}`),
			[]string{"a", "b"},
		},
		{
			"expanded",
			task(`,"_is_mapped":true,"expand_input":{"type":"dict-of-lists","value":` +
				`{"__type":"dict","__var":{"x_conn_id":["a","b"]}}}`),
			[]string{"a", "b"},
		},
		{
			"expanded with whole arguments",
			task(`,"_is_mapped":true,"expand_input":{"type":"list-of-dicts","value":[` +
				`{"x_conn_id":"a"}]}`),
			[]string{"a"},
		},
		{"control characters", task(`,"template_fields":["x_conn_id"],"x_conn_id":"a\nb"`), nil},
		{
			"too long",
			task(`,"template_fields":["x_conn_id"],"x_conn_id":"` + strings.Repeat("x", 251) + `"`),
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parseText(t, doc1(c.task))[0].Connections; !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestManySkippedTasksAreCounted(t *testing.T) {
	d := parseText(t, doc1(strings.Repeat("0,", 499)+"0"))[0]
	if len(d.Skipped) != 101 || d.Skipped[0].String() != `task #1: task is not an operator` ||
		d.Skipped[100].String() != "400 more tasks do not count" {
		t.Errorf("%d skipped, from %v to %v",
			len(d.Skipped), d.Skipped[0], d.Skipped[len(d.Skipped)-1])
	}
}

func TestSkippedTasksShowNothingButTheUser(t *testing.T) {
	d := parseText(t, doc1(
		task(`,"run_as_user":"a/b"`), task(`,"run_as_user":12`),
		task(`,"run_as_user":{"x":"hidden"}`), task(`,"run_as_user":["hidden"]`),
		task(`,"_is_mapped":true,"partial_kwargs":"hidden"`),
		`{"__type":"martian","__var":"hidden"}`,
	))[0]
	var got []string
	for _, s := range d.Skipped {
		got = append(got, s.String())
	}
	want := []string{
		`task "t": not a user name: "a/b"`,
		`task "t": run_as_user is not text: "12"`,
		`task "t": run_as_user is not text`,
		`task "t": run_as_user is not text`,
		`task "t": partial_kwargs is not an object`,
		`task #6: task is not an operator`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzParse checks that every user is a run_as_user in the document, and that every DAG is
// that of the row or has an id that begins with its id.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		doc1(
			task(`,"run_as_user":"etl"`),
			task(`,"_is_mapped":true,"partial_kwargs":{"run_as_user":"#12"}`),
		),
		`{"__version":3,"dag":{"dag_id":"d","tasks":[{"task_id":"t","template_fields":["q"],` +
			`"q":"{{ conn.a }}"}]},"client_defaults":{"tasks":{"run_as_user":"cd"}}}`,
		doc1(`{"task_id":"a","subdag":{"_dag_id":"d.a","tasks":[{"task_id":"b",` +
			`"run_as_user":"sub"}]}}`),
		doc1(`{"task_id":"a","x":[NaN,-Infinity],"run_as_user":"\u0065tl\ud800"}`),
	} {
		f.Add([]byte(text), []byte(nil))
		f.Add([]byte("null"), deflate(text))
	}
	f.Fuzz(func(t *testing.T, text, compressed []byte) {
		d := dags.Document{ID: "d", Data: text, Compressed: compressed}
		if len(compressed) > 0 {
			// This is about broken ones; documents that are whole are checked as text.
			text = nil
		}
		found, err := dags.Parse(d)
		if err != nil {
			if found != nil || conn.KindOf(err) != conn.Invalid {
				t.Fatalf("%v, %v", found, err)
			}
			return
		}
		var whole any
		if json.Unmarshal(text, &whole) != nil {
			whole = nil // compressed, or NaN, which encoding/json does not know
		}
		named := make(map[string]bool)
		gather(whole, named)
		for i, d := range found {
			if (d.ID == "d") != (i == 0) || i > 0 && !strings.HasPrefix(d.ID, "d.") {
				t.Errorf("DAG %q", d.ID)
			}
			for _, u := range d.Users {
				if u == "" || u == "root" || u == "#0" || strings.ContainsAny(u, "\x00\n:/") {
					t.Errorf("user %q", u)
				}
				if whole != nil && !named[u] && u[0] != '#' {
					t.Errorf("the document does not name the user %q", u)
				}
			}
			for _, s := range d.Skipped {
				if line := s.String(); len(line) > 1000 || strings.ContainsAny(line, "\n\r\x1b") {
					t.Errorf("not fit for a log: %q", line)
				}
			}
		}
	})
}

// gather collects every text with the key run_as_user.
func gather(v any, into map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			gather(x, into)
		}
	case map[string]any:
		for k, x := range v {
			if s, ok := x.(string); ok && k == "run_as_user" {
				into[s] = true
			}
			gather(x, into)
		}
	}
}
