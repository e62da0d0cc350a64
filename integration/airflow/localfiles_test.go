//go:build integration

package airflow_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/conn/conntest"
	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/localfile"
)

// fileCount is how many files are made up; each is asked for three ids.
const fileCount = 600

// localFiles makes up files of connections. Each holds "sound", which is found unless the
// whole file is spoilt, and most hold "x".
type localFiles struct {
	*rand.Rand
	values []string
}

// pick returns one of choices.
func pick[T any](l *localFiles, choices ...T) T { return choices[l.IntN(len(choices))] }

func (l *localFiles) file() (name, text string) {
	switch l.IntN(5) {
	case 0:
		return pick(l, "a.env", "a.ENV", "b.c.env"), l.env()
	case 1:
		return "a.json", l.json()
	}
	return pick(l, "a.yaml", "a.yml"), l.yaml()
}

func (l *localFiles) value() string {
	// What brackets may hold is another question to each release of Python.
	return strings.NewReplacer("\n", " ", "\r", " ", "[", "(", "]",
		")").Replace(pick(l, l.values...))
}

func (l *localFiles) env() string {
	lines := []string{"sound=mysql://h"}
	for range l.IntN(3) {
		lines = append(lines, pick(l, "x=", "x=", "y=", "X=", " x=", "x =", "é=")+l.value())
	}
	if l.IntN(3) == 0 {
		lines = append(
			lines,
			pick(l, "", "# c=d", "  # c", "#", "\u00a0# no comment", "x", "=a://b", "sound=a://b",
				"z=a://b\u2028w=c://d", "z=a\x0cv=b://c", " "),
		)
	}
	l.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return strings.Join(lines, pick(l, "\n", "\r\n", "\n\n")) + pick(l, "", "\n")
}

// scalarsOfJSON are values of which some suit no field.
var scalarsOfJSON = []string{
	`"text"`, `"text"`, `"text"`, `""`, `null`, `true`, `false`, `0`, `1`, `-0`, `5432`, `"5432"`,
	`" 54_32 "`, `5.5`, `1e400`, `NaN`, `123456789012345678901234567890`, `[]`, `{}`, `[1]`,
	`{"a": 1}`, `{"a": "b", "a": {"c": [null, 1.0, 1e16, "\u00e9"]}}`, `"{\"a\": 1}"`, `"{bad"`,
	`"\ud800"`, `"é😀"`, `"my-type"`, `"postgresql"`, `"a\u0000b"`,
}

func (l *localFiles) json() string {
	x := l.object(func(key string) string {
		if key == "extra" || key == "extra_dejson" {
			return pick(l, scalarsOfJSON...)
		}
		if l.IntN(3) > 0 {
			return `"text"`
		}
		return pick(l, scalarsOfJSON...)
	}, `"%s": %s`, ", ")
	switch l.IntN(6) {
	case 0:
		text, _ := json.Marshal(l.value())
		x = string(text)
	case 1:
		x = pick(l, `[]`, `["a://b"]`, `[{"host": "h"}]`, `["a://b", "a://c"]`, `5`, `null`, `[[]]`)
	default:
		x = "{" + x + "}"
	}
	return fmt.Sprintf(`%s{"sound": "mysql://h", "x": %s%s}%s`, pick(l, "", "", "", " ", "\n"), x,
		pick(l, "", "", `, "x": "a://b"`, `, "": "a://b"`), pick(l, "", "\n", "", "", "x"))
}

// object returns members for a few keys of a connection.
func (l *localFiles) object(value func(key string) string, format, between string) string {
	var members []string
	for _, key := range []string{
		"conn_type", "host", "login", "password", "schema", "port", "extra", "description",
		"extra_dejson", "conn_id", "uri", "other",
	} {
		chance := map[string]int{
			"extra_dejson": 12, "conn_id": 20, "uri": 25, "other": 40, "extra": 2,
		}[key]
		if l.IntN(max(chance, 2)) > 0 {
			continue
		}
		v := value(key)
		if key == "conn_id" {
			v = pick(l, `"x"`, `"x"`, `"y"`)
		}
		members = append(members, fmt.Sprintf(format, key, v))
	}
	return strings.Join(members, between)
}

// scalarsOfYAML are texts that mean something to some version of YAML.
var scalarsOfYAML = []string{
	"yes", "No", "ON", "off", "y", "n", "true", "TRUE", "tRue", "~", "null", "Null", "nULL", "0",
	"1", "-0", "+5", "5432", "0o17", "017", "-017", "08", "019", "0x1F", "0X1F", "0xg", "0b11",
	"0b12",
	"1_000", "_1", "1__0", "1:30", "1:30:00", "1:60", "1:30.5", "190:20:30.15", "1.", ".5", "1.5",
	"1e3", "1.0e3", "1.0e+3", "-1.5E-3", "6.02e+23", ".inf", "-.INF", "+.inf", ".nan", ".NaN",
	"nan", "inf", "1_0.5_0",
	"2020-01-01", "2020-1-1", "2020-13-01", "2001-12-14t21:59:43.10-05:00",
	"2001-12-14 21:59:43.10 -5", "2001-12-14 25:00:00", "2001-12-14 21:59", "=", "<<", "a: b",
	"a #b", "a#b", "a://b", "http://u:p@h:1/s?a=b", "é😀",
	"'it''s'", `"a\tb\x41\u00e9\U0001F600\0"`, `"line\
    on"`, "'5432'", `"yes"`, "!!str 5", "!!str yes", "! 5", "! yes", "!!int '5'", "!!float 3",
	"!!float 1:30", "!!bool 'no'", "!!null x", "!foo bar", "!!binary aGVsbG8=", "&a 5", "&b text",
	"*a", "*b", "[1, 2]", "{a: 1, b: yes}",
	"{1: 2, yes: 3, ~: 4, 1.5: 5}", "{a: {b: [1e3, 1.0e+3, 017, ~]}}", "[2020-01-01]",
	"!!set {a, b}", "|\n    a\n    b\n", ">-\n    a\n    b\n\n    c", "", "text text", "text,text",
	"text]", "-", "- a", "@a", "`a", "%a", "a\tb", "\u0085", "\u2028x", "\ufeffx", "a:b", ":a",
	"?a", "-a", "*", "&", "|", ">",
	"123456789012345678901234567890", "0x123456789012345678901234567890",
}

func (l *localFiles) yaml() string {
	flow := l.IntN(4) == 0
	format, between := "\n  %s: %s", ""
	if flow {
		format, between = "%s: %s", ", "
	}
	x := l.object(func(key string) string {
		if key != "extra" && l.IntN(3) > 0 {
			return "text"
		}
		if key == "extra" && l.IntN(2) == 0 {
			return fmt.Sprintf("{k: %s, %s: v}", l.inFlow(), l.inFlow())
		}
		if flow {
			return l.inFlow()
		}
		return pick(l, scalarsOfYAML...)
	}, format, between)
	if flow {
		x = "{" + x + "}"
	}
	switch l.IntN(8) {
	case 0:
		x = pick(l, scalarsOfYAML...)
	case 1:
		x = "\n- " + pick(l, "a://b", "{host: h}", "[a]", "a://b\n- c", "a: b")
	case 2:
		x = "\n  <<: " + pick(l, "*base", "[*base, *more]", "{host: own}", "5", "[5]",
			"*none") + pick(l, "", "\n  host: h", "\n  port: 5")
	}
	before := pick(l, "", "", "", "", "# comment\n", "---\n", "%YAML 1.1\n---\n")
	base := pick(
		l,
		"base: &base {host: base, login: base}\nmore: &more {schema: more, host: more, <<: "+
			"*base}\n",
	)
	after := pick(l, "", "", "", "", "\n", "\n...\n", "\n---\n", "\nx: a://c\n", "\n1: a://b\n",
		"\nyes: a://b", "\n~: a://b", "\n'y': a://b", "\n2020-01-01: a://b", "\n\ty: a",
		"\n? y\n: a://b", "\n&k key: a://b", "\n? [a]\n: b")
	return before + base + "sound: mysql://h\nx: " + x + after
}

// inFlow is a scalar that can stand in a flow collection more often than not.
func (l *localFiles) inFlow() string {
	for {
		if s := pick(l, scalarsOfYAML...); !strings.ContainsAny(s, "\n") {
			return s
		}
	}
}

// stricter returns why connfs refuses a file that Airflow reads, if that is one of the
// reasons that stand in docs/local_filesystem.md.
func stricter(err error) string {
	for _, reason := range []string{
		"does not read a key of this type", "two keys of this mapping are one in JSON",
		"does not read this as the type that it has", "does not read a value of this type",
	} {
		if err != nil && strings.Contains(err.Error(), reason) {
			return reason
		}
	}
	return ""
}

func TestLocalFilesMeanWhatTheyMeanToAirflow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(uint64(seed(t)), 1))
	l := &localFiles{rnd, conntest.Values(seed(t), 2000)}
	var questions []airflow.LocalFile
	for range fileCount {
		name, text := l.file()
		for _, id := range []string{"x", "sound", "y"} {
			questions = append(questions, airflow.LocalFile{
				Name: name, Content: []byte(text), ID: id,
			})
		}
	}
	for _, version := range []string{airflow.V2, airflow.V3} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			count := make(map[string]int)
			for i, a := range airflow.ReadLocalFiles(t, version, questions) {
				q := questions[i]
				path := filepath.Join(dir, fmt.Sprint(i/3)+q.Name)
				if err := os.WriteFile(path, q.Content, 0o600); err != nil {
					t.Fatal(err)
				}
				r := readLocalFile(t, path, q.ID)
				result := compareFile(version, q, r, a)
				count[result]++
				if result == "different" {
					t.Errorf("%s of %s:\n%q\n%s", q.ID, q.Name, q.Content, report(r, a))
				}
			}
			t.Logf("%d questions: %v", len(questions), count)
			if count["found by both"] < len(questions)/5 ||
				count["refused by both"] < len(questions)/10 {
				t.Errorf("too few are found or refused for this to prove anything: %v", count)
			}
		})
	}
}

func readLocalFile(t *testing.T, path, id string) reading {
	t.Helper()
	kwargs, err := json.Marshal(map[string]string{"connections_file_path": path})
	if err != nil {
		t.Fatal(err)
	}
	b, err := backend.Open(&backend.Secrets{Kwargs: string(kwargs)}, localfile.Open)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Connection(t.Context(), id)
	if err == nil {
		err = c.Validate()
	}
	return reading{c, err}
}

// compareFile says how the answers compare.
func compareFile(version string, q airflow.LocalFile, r reading, a airflow.Answer) string {
	kind := conn.KindOf(r.err)
	if a.Error == "" {
		a.Fields = servable(a.Fields)
	}
	switch {
	case a.Error == "absent" && r.err != nil && kind == conn.Absent:
		return "absent for both"
	case a.Error != "" && a.Error != "absent" && r.err != nil && kind == conn.Invalid:
		return "refused by both"
	case a.Error == "" && r.err == nil && cmp.Equal(fieldsOf(r.c), a.Fields):
		return "found by both"
	case a.Error == "" && !hasForm(a) && r.err != nil && kind == conn.Invalid:
		return "found, and has no form"
	case r.err != nil && kind == conn.Invalid && stricter(r.err) != "":
		return "stricter: " + stricter(r.err)
	case version == airflow.V3 && strings.HasPrefix(a.Error, "ValueError: Encountered"):
		return "3.x refuses the extra"
	case version == airflow.V3 && r.err == nil && a.Error == "" && a.Fields["extra"] != nil &&
		fieldsOf(r.c)["extra"] != nil &&
		isDecodedQuery(fieldsOf(r.c)["extra"].(string), a.Fields["extra"].(string)):
		return "3.1+ decodes what stands in a query"
	case version == airflow.V3 && strings.Contains("\n"+string(q.Content), "\n=") &&
		strings.HasSuffix(strings.ToLower(q.Name), ".env"):
		return "3.x refuses an empty id"
	case version == airflow.V3 && strings.Contains(string(q.Content), "\u00a0#"):
		return "3.x takes any blank before a comment"
	}
	return "different"
}

// servable returns the fields with what connfs serves in place of what a connection's
// file has no form of, where docs/local_filesystem.md says so.
func servable(fields map[string]any) map[string]any {
	f := make(map[string]any, len(fields))
	for name, v := range fields {
		f[name] = v
	}
	if text, ok := f["port"].(string); ok {
		f["port"] = map[string]any{} // no form, unless it is a number
		if text == "" {
			f["port"] = nil
		} else if n, err := strconv.ParseInt(
			strings.ReplaceAll(strings.TrimSpace(text), "_", ""), 10, 64,
		); err == nil {
			f["port"] = json.Number(strconv.FormatInt(n, 10))
		}
	}
	if o, ok := f["extra"].(map[string]any); ok {
		switch o["python"] {
		case "{}", "[]", "0", "False", "0.0", "-0.0":
			f["extra"] = nil
		}
	}
	if f["extra"] == json.Number("0") {
		f["extra"] = nil
	}
	return f
}
