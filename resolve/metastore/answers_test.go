package metastore_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/metastore"
)

func TestSQLiteMetastoreAnswersAsAirflow(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			e := readExpected(t, version)
			p := openPath(t, metastore.Settings{URL: "sqlite:///" + copyMetastore(t, version),
				FernetKey: e.FernetKey})
			var want []string
			for id, c := range e.Connections {
				c.check(t, p, id)
				if id != "" && !c.Absent {
					want = append(want, id)
				}
				if c.File == nil {
					continue
				}
				if name, ok := conn.FileName(id); !ok || name != *c.File {
					t.Errorf("file name of %q = %q, want %q", id, name, *c.File)
				}
			}
			if len(e.Connections) < 60 {
				t.Errorf("only %d connections: the data is not what it was", len(e.Connections))
			}
			slices.Sort(want)
			l, err := p.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, l.IDs); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}
			if !l.Complete || len(l.Failures) > 0 {
				t.Errorf("list: complete %v, failures %v", l.Complete, l.Failures)
			}
		})
	}
}

func TestSQLiteMetastoreWithOtherKeysAnswersAsAirflow(t *testing.T) {
	for _, version := range versions {
		e := readExpected(t, version)
		if len(e.OtherKeys) < 4 {
			t.Fatalf("%s: only %d other keys", version, len(e.OtherKeys))
		}
		for _, other := range e.OtherKeys {
			t.Run(version+"/"+other.Name, func(t *testing.T) {
				p := openPath(t, metastore.Settings{URL: "sqlite:///" + copyMetastore(t, version),
					FernetKey: other.FernetKey})
				for id, c := range e.Connections {
					if len(c.AnyOf) > 0 {
						continue // the data says nothing about these
					}
					if raw, ok := other.Different[id]; ok {
						c = c.changed(t, raw)
					}
					c.check(t, p, id)
				}
			})
		}
	}
}

// changed returns what is expected where another key gives another error, which is all
// that another key does in the data.
func (e expectedConnection) changed(t *testing.T, raw json.RawMessage) expectedConnection {
	t.Helper()
	var message string
	if err := json.Unmarshal(raw, &message); err != nil || kindOfMessage(message) == conn.Failed {
		t.Fatalf("unknown difference %s", raw)
	}
	return expectedConnection{Error: message}
}

func TestOnlyAFileIsLocal(t *testing.T) {
	for url, want := range map[string]bool{"sqlite:////nonexistent/airflow.db": true,
		"postgresql://db/airflow": false, "mysql://db/airflow": false} {
		m, err := metastore.Open(metastore.Settings{URL: url}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if m.Local() != want {
			t.Errorf("%s: local: %v", url, m.Local())
		}
	}
}
