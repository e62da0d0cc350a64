package metastore_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/metastore"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// The metastores under testdata were written and read by real Airflow.
var versions = []string{"1.10", "2.2", "2.6", "2.10", "2.11", "3.0", "3.1", "3.3"}

// expected is what Airflow answered about one metastore.
type expected struct {
	FernetKey   string                        `json:"fernet_key"`
	Connections map[string]expectedConnection `json:"connections"`
	OtherKeys   []struct {
		Name      string                     `json:"name"`
		FernetKey string                     `json:"fernet_key"`
		Different map[string]json.RawMessage `json:"different"`
	} `json:"other_keys"`
	Servers map[string]struct {
		RowsLeftOut [][2]string                `json:"rows_left_out"`
		Different   map[string]json.RawMessage `json:"different"`
		AlsoFound   map[string]string          `json:"also_found"`
	} `json:"servers"`
}

type expectedConnection struct {
	File              *string              `json:"file"`
	Fields            map[string]any       `json:"fields"`
	JSON              *string              `json:"json"`
	NoJSON            string               `json:"no_json"`
	Error             string               `json:"error"`
	Absent            bool                 `json:"absent"`
	AnyOf             []expectedConnection `json:"any_of"`
	JSONIfExtraIsText *string              `json:"json_if_extra_is_text"`
	Lookup            string               `json:"lookup"`
}

func readExpected(t testing.TB, version string) expected {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", version, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var e expected
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// copyMetastore copies a version's folder, since SQLite may write beside a file, and
// returns the database's path.
func copyMetastore(t testing.TB, version string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", version))); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "airflow.db")
}

// openPath opens the search path over one metastore, as connfs does.
func openPath(t testing.TB, m metastore.Settings) *resolve.Path {
	t.Helper()
	fernet, _ := kms.NewFernet(m.FernetKey)
	b, err := metastore.Open(m, fernet)
	if err != nil {
		t.Fatal(err)
	}
	p, err := resolve.NewPath([]resolve.Entry{{Name: "metastore", Backend: b}}, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return p
}

// kind returns the kind that Airflow's failure is to connfs.
func (e expectedConnection) kind() conn.Kind {
	switch {
	case e.Absent:
		return conn.Absent
	case e.NoJSON != "":
		return conn.Invalid
	}
	return kindOfMessage(e.Error)
}

func kindOfMessage(message string) conn.Kind {
	message = strings.TrimPrefix(message, "error: ")
	switch {
	case strings.HasPrefix(message, "InvalidToken"), strings.Contains(message, "Can't decrypt"),
		strings.Contains(message, "Could not create Fernet object"):
		return conn.KeyRejected
	case message == "":
		return conn.Failed
	}
	return conn.Invalid
}

// check compares what the path answers for id with what Airflow answered.
func (e expectedConnection) check(t *testing.T, p *resolve.Path, id string) {
	t.Helper()
	c, _, err := p.Connection(t.Context(), id)
	if len(e.AnyOf) > 0 {
		for _, one := range e.AnyOf {
			if err == nil && one.differs(c) == "" {
				return
			}
		}
		t.Errorf("%q is not one of the rows that Airflow picks from (error: %v)", id, err)
		return
	}
	if e.JSONIfExtraIsText != nil {
		// 3.x refuses this extra; a task of 2.10 reads it.
		e.JSON, e.Error = e.JSONIfExtraIsText, ""
	}
	if e.JSON == nil {
		if got, want := conn.KindOf(err), e.kind(); err == nil || got != want {
			t.Errorf("%q: %v, want %v", id, err, want)
		}
		return
	}
	if err != nil {
		t.Errorf("%q: %v, want a connection", id, err)
		return
	}
	if diff := e.differs(c); diff != "" {
		t.Errorf("%q (-want +got):\n%s", id, diff)
	}
}

// differs compares the content of the file, and the fields where there are some.
func (e expectedConnection) differs(c *conn.Connection) string {
	text, err := c.JSON()
	if err != nil {
		return err.Error()
	}
	if diff := cmp.Diff(*e.JSON, string(text)); diff != "" {
		return diff
	}
	if e.Fields == nil {
		return ""
	}
	return cmp.Diff(e.Fields, resolvetest.FieldsOf(c))
}
