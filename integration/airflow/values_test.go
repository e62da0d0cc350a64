//go:build integration

package airflow_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/conn/conntest"
	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/metastore"
)

// How much is compared, for each Airflow.
const (
	valueCount = 800
	rowCount   = 200
)

// seed returns the seed of what the tests make up: CONNFS_SEED, or the same one
// every time.
func seed(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("CONNFS_SEED")
	if text == "" {
		text = "1"
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("CONNFS_SEED: %v", err)
	}
	t.Logf("CONNFS_SEED=%d makes this again", n)
	return n
}

// difference is one way in which another Airflow deliberately reads a value differently
// from 2.10.5, which connfs follows.
type difference struct {
	name    string
	in      []string // the Airflows
	example string   // a value that is read otherwise
	// explains says whether a is another answer than connfs's for this reason
	// alone. The value is "" for a row of a metastore.
	explains func(value string, r reading, a airflow.Answer) bool
}

// reading is what connfs makes of a value or row.
type reading struct {
	c   *conn.Connection // nil if nothing is read; there where only the look-up refuses it
	err error
}

// found returns the connection that a reader gets, or nil.
func (r reading) found() *conn.Connection {
	if r.err != nil {
		return nil
	}
	return r.c
}

// differences is the list of all of them. In fields that no difference names,
// answers must be equal.
var differences = []difference{
	{
		// The core reads each parameter of a URI's query as JSON where it can: "1" is 1.
		// The Task SDK, with which tasks read, keeps text.
		name:    "3.1+ core decodes the query",
		in:      []string{airflow.V3},
		example: `http://h/?a=1&b=true&c=null&d=x&e=%7B%22f%22%3A+%5B1.5%5D%7D`,
		explains: func(_ string, r reading, a airflow.Answer) bool {
			c := r.found()
			extra, ok := a.Fields["extra"].(string)
			return c != nil && ok && extra != reveal(c.Extra) &&
				isDecodedQuery(reveal(c.Extra), extra) && agrees(withExtra(c, extra), a, uriOf3)
		},
	},
	{
		// 2.x and the Task SDK take any extra.
		name:    "3.x core refuses an extra that is no JSON object",
		in:      []string{airflow.V3},
		example: `http://h/?__extra__=text`,
		explains: func(_ string, r reading, a airflow.Answer) bool {
			c := r.found()
			return c != nil && a.Error != "" && !isObject(reveal(c.Extra)) &&
				(strings.HasPrefix(a.Cause, "ValueError: Encountered non-JSON in `extra`") ||
					strings.HasPrefix(
						a.Cause,
						"ValueError: Encountered JSON value in `extra` which does not parse as a "+
							"dictionary",
					))
		},
	},
	{
		// 2.10 writes the protocol bare, which does not read back.
		name:    "3.1+ quotes a protocol that is the conn_type in get_uri",
		in:      []string{airflow.V3, airflow.V3SDK},
		example: `{"conn_type": "http", "host": "http://a b"}`,
		explains: func(_ string, r reading, a airflow.Answer) bool {
			c := r.found()
			return c != nil && hostHasType(c) && agrees(c, a, uriOf3)
		},
	},
	{
		// 2.x and the core make null of it, which is what connfs gives to tasks of
		// both versions. In a URI it stands between ":" and "@".
		name:    "the Task SDK keeps an empty password",
		in:      []string{airflow.V3SDK},
		example: `http://u:@h`,
		explains: func(_ string, r reading, a airflow.Answer) bool {
			c := r.found()
			if c == nil || c.Password != (conn.Secret{}) || a.Fields["password"] != "" {
				return false
			}
			kept := *c
			kept.Password = conn.NewSecret("")
			return agrees(&kept, a, uriOf3)
		},
	},
	{
		// It is the same rule: 2.x and the core drop what is false, of any type.
		name:    "the Task SDK keeps an empty password that is not text, and fails on it",
		in:      []string{airflow.V3SDK},
		example: `{"host": "h", "password": []}`,
		explains: func(value string, r reading, a airflow.Answer) bool {
			c := r.found()
			return c != nil && c.Password == (conn.Secret{}) &&
				strings.Contains(value, `"password"`) &&
				a.Error != "" && a.Cause == "TypeError: quote_from_bytes() expected bytes"
		},
	},
	{
		// 2.x and the core let stand beside it what is false, and a description.
		name:    "the Task SDK takes uri only alone in JSON",
		in:      []string{airflow.V3SDK},
		example: `{"uri": "http://h", "description": "d"}`,
		explains: func(value string, r reading, a airflow.Answer) bool {
			c := r.found()
			return c != nil && strings.Contains(value, `"uri"`) &&
				a.Error != "" && strings.HasPrefix(
				a.Cause,
				"AirflowException: You must create an object using the URI or individual "+
					"values",
			)
		},
	},
	{
		// 2.x and the core ignore a uri that is false.
		name:    "the Task SDK takes an empty uri in JSON for a URI",
		in:      []string{airflow.V3SDK},
		example: `{"uri": ""}`,
		explains: func(value string, r reading, a airflow.Answer) bool {
			c := r.found()
			empty, err := conn.ParseURI("")
			return c != nil && err == nil && strings.Contains(value, `"uri"`) &&
				cmp.Equal(fieldsOf(c), fieldsOf(&conn.Connection{})) && agrees(empty, a, uriOf3)
		},
	},
	{
		// The masker of 2.x's task logs gives every text of the extra to re2, which
		// takes UTF-8 only. That of 3.x uses Python's re.
		name:    "3.x takes a lone surrogate inside the extra",
		in:      []string{airflow.V3, airflow.V3SDK},
		example: `{"extra": {"a": ["\ud800"]}}`,
		explains: func(_ string, r reading, a airflow.Answer) bool {
			if r.c == nil || r.err == nil ||
				!strings.Contains(r.err.Error(), "the extra holds a lone surrogate") ||
				!cmp.Equal(fieldsOf(r.c), a.Fields) {
				return false
			}
			uri, err := uriOf3(withExtra(r.c, ""))
			if a.Fields["schema"] == nil || a.Fields["schema"] == "" {
				uri += "/"
			}
			return err == nil && a.URI == uri+"?__extra__="+url.QueryEscape(reveal(r.c.Extra))
		},
	},
	{
		// The team that owns a connection came with 3.2, as an argument of the model.
		name:    "3.2+ core takes the key team_name",
		in:      []string{airflow.V3},
		example: `{"host": "h", "team_name": "t"}`,
		explains: func(value string, r reading, a airflow.Answer) bool {
			without := parse(withoutKey(value, "team_name"))
			return r.err != nil && without.err == nil && agrees(without.c, a, uriOf3)
		},
	},
}

func TestValuesMeanWhatTheyMeanToAirflow(t *testing.T) {
	texts := conntest.Values(seed(t), valueCount)
	for _, d := range differences {
		texts = append(texts, d.example)
	}
	values := make([]airflow.Value, len(texts))
	for i, text := range texts {
		// No environment holds a NUL.
		values[i] = airflow.Value{
			ID: fmt.Sprintf("c%d", i), Value: []byte(strings.ReplaceAll(text, "\x00", "")),
		}
	}
	for _, version := range []string{airflow.V2, airflow.V3, airflow.V3SDK} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			names, count := make([]string, len(values)), make(map[string]int)
			for i, a := range airflow.Read(t, version, values) {
				if a.Python3114 != nil {
					// The golden answers, and connfs, follow Python 3.11.4. This Python
					// itself says that nothing else makes its answer another one.
					count["by this Python's brackets"]++
					a = *a.Python3114
				}
				value := string(values[i].Value)
				read := parse(value)
				names[i] = compare(version, value, read, a)
				if names[i] == "" {
					t.Errorf("%q\n%s", value, report(read, a))
				}
				if names[i] == equal && read.err != nil {
					count["refused by both"]++
				} else {
					count[names[i]]++
				}
			}
			t.Logf("%d values: %v", len(values), count)
			if count[equal] < valueCount/4 || count["refused by both"] < valueCount/10 {
				t.Errorf("too few are found or refused for this to prove anything: %v", count)
			}
			for i, d := range differences {
				if got := names[valueCount+i]; slices.Contains(d.in, version) && got != d.name {
					t.Errorf("%s: explained by %q, want %q", d.example, got, d.name)
				}
			}
		})
	}
}

// equal is what compare returns for two equal answers.
const equal = "equal"

// compare returns equal, or the name of the difference that explains why an Airflow answers
// differently from connfs, or "" if nothing explains it.
func compare(version, value string, r reading, a airflow.Answer) string {
	if r.err != nil && (a.Error != "" || !hasForm(a)) || r.err == nil &&
		agrees(r.c, a, (*conn.Connection).URI) {
		return equal
	}
	for _, d := range differences {
		if slices.Contains(d.in, version) && d.explains(value, r, a) {
			return d.name
		}
	}
	return ""
}

// parse returns what connfs makes of a value.
func parse(value string) reading {
	c, err := conn.Parse(value)
	if err == nil {
		err = c.Validate()
	}
	return reading{c, err}
}

// hasForm says whether connfs has a file for what Airflow found: each field must be text,
// and the port an integer of 64 bits.
func hasForm(a airflow.Answer) bool {
	for name, v := range a.Fields {
		switch v := v.(type) {
		case nil, string:
		case json.Number:
			if _, err := v.Int64(); err != nil || name != "port" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// agrees says whether Airflow found exactly c, and writes it as uri does.
func agrees(c *conn.Connection, a airflow.Answer, uri func(*conn.Connection) (string, error)) bool {
	if a.Error != "" || !cmp.Equal(fieldsOf(c), a.Fields) {
		return false
	}
	text, err := uri(c)
	return err == nil && text == a.URI
}

// report shows both answers. The values are made up.
func report(r reading, a airflow.Answer) string {
	theirs := fmt.Sprintf("Airflow: %s %s", a.Error, a.Cause)
	if a.Error == "" {
		theirs = fmt.Sprintf("Airflow: %q %q", a.Fields, a.URI)
	}
	if r.err != nil {
		return fmt.Sprintf("connfs: %v\n%s", r.err, theirs)
	}
	uri, err := r.c.URI()
	return fmt.Sprintf("connfs: %q %q %v\n%s\nfields (-Airflow +connfs):\n%s", fieldsOf(r.c), uri,
		err, theirs, cmp.Diff(a.Fields, fieldsOf(r.c)))
}

// fieldsOf returns c in the form of airflow.Answer.
func fieldsOf(c *conn.Connection) map[string]any {
	fields := map[string]any{"port": nil}
	if c.Port != nil {
		fields["port"] = json.Number(strconv.FormatInt(*c.Port, 10))
	}
	for name, text := range map[string]*string{
		"conn_type": c.Type, "description": c.Description, "host": c.Host, "login": c.Login,
		"schema": c.Schema, "password": pointer(c.Password), "extra": pointer(c.Extra),
	} {
		fields[name] = nil
		if text != nil {
			fields[name] = *text
		}
	}
	return fields
}

func pointer(s conn.Secret) *string {
	text, ok := s.Reveal()
	if !ok {
		return nil
	}
	return &text
}

func reveal(s conn.Secret) string {
	text, _ := s.Reveal()
	return text
}

func withExtra(c *conn.Connection, extra string) *conn.Connection {
	other := *c
	other.Extra = conn.NewSecret(extra)
	return &other
}

// hostHasType says whether the protocol in the host is the conn_type.
func hostHasType(c *conn.Connection) bool {
	return c.Host != nil && c.Type != nil && *c.Type != "" &&
		strings.HasPrefix(*c.Host, *c.Type+"://")
}

// uriOf3 is the URI as 3.1 and later write it: a host whose protocol is the
// conn_type is quoted whole.
func uriOf3(c *conn.Connection) (string, error) {
	if !hostHasType(c) {
		return c.URI()
	}
	const mark = "the.host.itself"
	other, host := *c, mark
	other.Host = &host
	uri, err := other.URI()
	quoted := strings.ReplaceAll(url.QueryEscape(*c.Host), "+", "%20")
	return strings.Replace(uri, mark, quoted, 1), err
}

// isObject says whether an extra is an object by RFC 8259, as it must be to stand
// as it is in a file.
func isObject(extra string) bool {
	return strings.HasPrefix(strings.TrimLeft(extra, " \t\r\n"), "{") && json.Valid([]byte(extra))
}

// isDecodedQuery says whether decoded is what becomes of the extra that stands
// for a query, an object of texts, if each text that is JSON counts as JSON.
func isDecodedQuery(extra, decoded string) bool {
	var texts map[string]string
	var values map[string]json.RawMessage
	if json.Unmarshal([]byte(extra), &texts) != nil ||
		json.Unmarshal([]byte(decoded), &values) != nil || len(texts) != len(values) {
		return false
	}
	for key, text := range texts {
		var want, got any
		if json.Unmarshal([]byte(text), &want) != nil {
			want = text
		}
		if json.Unmarshal(values[key], &got) != nil || !cmp.Equal(want, got) {
			return false
		}
	}
	return true
}

// withoutKey returns a JSON object without a key, and another text as it is.
func withoutKey(value, key string) string {
	var o map[string]json.RawMessage
	if json.Unmarshal([]byte(strings.TrimSpace(value)), &o) != nil {
		return value
	}
	delete(o, key)
	text, err := json.Marshal(o)
	if err != nil {
		return value
	}
	return string(text)
}

func TestRowsAndFilesMeanWhatTheyMeanToAirflow(t *testing.T) {
	var rows []airflow.Connection
	for _, r := range conntest.Connections(seed(t), rowCount) {
		rows = append(rows, airflow.Connection{
			ID: r.ID, ConnType: r.Type, Description: r.Description, Host: r.Host, Login: r.Login,
			Password: r.Password, Schema: r.Schema, Port: r.Port, Extra: r.Extra,
		})
	}
	databases := startDatabases(t)
	// Each Airflow reads the file of a row, whichever Airflow wrote the row.
	var files []airflow.Value
	var stored []airflow.Answer
	for _, version := range []string{airflow.V2, airflow.V3} {
		t.Run("rows of "+version, func(t *testing.T) {
			home := t.TempDir()
			answers := airflow.Write(t, version, home, fernetKey, rows)
			read := readRows(t, "sqlite:///"+home+"/airflow.db", rows)
			count := make(map[string]int)
			for i, a := range answers {
				r := read[i]
				if a.Error != "" && a.Cause == "" {
					// Its model did not store the row.
					count["refused by the model"]++
					if version != airflow.V3 ||
						!strings.HasPrefix(a.Error, "ValueError: Encountered") ||
						conn.KindOf(r.err) != conn.Absent {
						t.Errorf("%q\n%s", a.ID, report(r, a))
					}
					continue
				}
				if r.err != nil && conn.KindOf(r.err) != conn.Invalid {
					t.Errorf("%q: %v, want a connection or Invalid", a.ID, r.err)
					continue
				}
				name := compare(version, "", r, a)
				count[name]++
				if name == "" {
					t.Errorf("%q\n%s", a.ID, report(r, a))
				}
				if r.found() == nil {
					continue
				}
				content, err := conn.Render(a.ID, r.c, conn.FormatJSON)
				if err != nil {
					t.Errorf("%q: %v", a.ID, err)
					continue
				}
				stored = append(stored, a)
				files = append(files, airflow.Value{
					ID: fmt.Sprintf("f%d", len(files)), Value: content,
				})
			}
			t.Logf("%d rows: %v", len(rows), count)
			if count[equal] < rowCount/2 {
				t.Errorf("too few rows are there for this to prove anything: %v", count)
			}
			for _, db := range databases {
				moved := readRows(t, db.copyRows(t, version, home+"/airflow.db"), rows)
				for i, r := range moved {
					if diff := cmp.Diff(outcome(read[i]), outcome(r)); diff != "" {
						t.Errorf("%q on %s (-SQLite +%s):\n%s", rows[i].ID, db.name, db.name, diff)
					}
				}
			}
		})
	}
	for _, version := range []string{airflow.V2, airflow.V3, airflow.V3SDK} {
		t.Run("files read by "+version, func(t *testing.T) {
			t.Parallel()
			refused := 0
			for i, a := range airflow.Read(t, version, files) {
				want := normalized(stored[i])
				if version == airflow.V3 && a.Error != "" && want["extra"] != nil &&
					!isObject(want["extra"].(string)) {
					refused++ // as the core of 3.x refuses such a row
					continue
				}
				if diff := cmp.Diff(want, a.Fields); a.Error != "" || diff != "" {
					t.Errorf("%s: %s %s\n(-stored +read)\n%s", files[i].Value, a.Error, a.Cause,
						diff)
				}
			}
			t.Logf("%d files, %d refused for an extra that is not an object", len(files), refused)
			if refused > len(files)/2 {
				t.Errorf("%d of %d files are refused", refused, len(files))
			}
		})
	}
}

// readRows returns what connfs, given that database, makes of each row.
func readRows(t *testing.T, url string, rows []airflow.Connection) []reading {
	t.Helper()
	fernet, err := kms.NewFernet(fernetKey)
	if err != nil {
		t.Fatal(err)
	}
	settings := metastore.Settings{URL: url, FernetKey: fernetKey}
	path, err := all.Open(&all.Settings{Metastore: &settings}, fernet, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The backend alone does not look at what Airflow's look-up refuses.
	backend, _ := resolve.Find[*metastore.Store](path)
	defer backend.Close()
	read := make([]reading, len(rows))
	for i, row := range rows {
		c, _, err := path.Connection(t.Context(), row.ID)
		if conn.KindOf(err) == conn.Invalid {
			c, _ = backend.Connection(t.Context(), row.ID)
		}
		read[i] = reading{c, err}
	}
	return read
}

// outcome returns a reading in a form that can be compared.
func outcome(r reading) any {
	if r.err != nil {
		return conn.KindOf(r.err).String()
	}
	return fieldsOf(r.c)
}

// normalized returns the fields of a stored connection as Airflow reads them from
// JSON: what it normalises there, and nothing else, differs.
func normalized(a airflow.Answer) map[string]any {
	f := make(map[string]any)
	for name, v := range a.Fields {
		f[name] = v
	}
	switch t := f["conn_type"].(type) {
	case string:
		f["conn_type"] = strings.ReplaceAll(t, "-", "_")
		if t == "postgresql" {
			f["conn_type"] = "postgres"
		}
		if t == "" {
			f["conn_type"] = nil
		}
	}
	if f["port"] == json.Number("0") {
		f["port"] = nil
	}
	for _, name := range []string{"password", "extra"} {
		if f[name] == "" {
			f[name] = nil
		}
	}
	// An object stands in the file as it is, and is dumped anew.
	if extra, ok := f["extra"].(string); ok && isObject(extra) {
		f["extra"] = *a.Dejson
		if *a.Dejson == "{}" {
			f["extra"] = nil
		}
	}
	return f
}
