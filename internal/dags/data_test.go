package dags_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/dags"
	"github.com/connfs/connfs/resolve/metastore"
)

// The metastores and expected.json under testdata were written by the real Airflow of each
// version.
var versions = []string{"1.10", "2.2", "2.6", "2.10", "2.11", "3.0", "3.1", "3.3"}

type expected struct {
	Compressed bool                   `json:"compressed"`
	DAGs       map[string]expectedDAG `json:"dags"`
	Users      map[string][]string    `json:"users"`
}

type expectedDAG struct {
	Active        bool      `json:"active"`
	Bundle        *string   `json:"bundle"`
	Team          *string   `json:"team"`
	Connections   []string  `json:"connections"`
	NotInDocument []string  `json:"connections_not_in_document"`
	Format        int       `json:"document_version"`
	RunAsUser     []*string `json:"run_as_user"`
	IsSubDAGOf    string    `json:"is_subdag_of"`
	Version       int64     `json:"version"`
	OlderVersions []struct {
		Version   int64     `json:"version"`
		RunAsUser []*string `json:"run_as_user"`
	} `json:"older_versions"`
}

// seen is a DAG as connfs reads it, in a form to compare.
type seen struct {
	Users        []string
	Unnamed      bool
	Connections  []string
	Format       int
	Version      int64
	Bundle, Team string
	Skipped      []string
}

func (e expectedDAG) seen() seen {
	s := seen{Connections: e.Connections, Format: e.Format, Version: e.Version}
	s.Users, s.Unnamed = named(e.RunAsUser)
	if e.Bundle != nil {
		s.Bundle = *e.Bundle
	}
	if e.Team != nil {
		s.Team = *e.Team
	}
	return s
}

// named separates the users in a list from null, which is a task without a user.
func named(users []*string) (names []string, unnamed bool) {
	names = []string{}
	for _, u := range users {
		if u == nil {
			unnamed = true
		} else {
			names = append(names, *u)
		}
	}
	return names, unnamed
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// openCopy opens a copy of a metastore, since SQLite may write beside a file.
func openCopy(t testing.TB, path string) *metastore.Store {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "airflow.db")
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := metastore.Open(metastore.Settings{URL: "sqlite:///" + to}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// rows returns all active rows with their documents.
func rows(t testing.TB, m *metastore.Store) []metastore.SerializedDAG {
	t.Helper()
	var all []metastore.SerializedDAG
	err := m.DAGs(t.Context(), nil, func(d metastore.SerializedDAG) error {
		all = append(all, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parse(d metastore.SerializedDAG) ([]dags.DAG, error) {
	return dags.Parse(dags.Document{ID: d.ID, Data: d.Data, Compressed: d.Compressed})
}

func TestDAGsAreAsAirflowReadsThem(t *testing.T) {
	for _, version := range versions {
		var e expected
		readJSON(t, filepath.Join("testdata", version, "expected.json"), &e)
		files := []string{"airflow.db"}
		if e.Compressed {
			files = append(files, "airflow-compressed.db")
		}
		for _, file := range files {
			t.Run(version+"/"+file, func(t *testing.T) {
				want := make(map[string]seen)
				for id, d := range e.DAGs {
					if d.Active {
						want[id] = d.seen()
					}
				}
				if len(want) < 15 || len(want) == len(e.DAGs) {
					t.Fatalf("%d of %d DAGs are active: the data is not what it was",
						len(want), len(e.DAGs))
				}
				got, users := make(map[string]seen), make(map[string][]string)
				for _, row := range rows(t, openCopy(t, filepath.Join("testdata", version, file))) {
					if (len(row.Compressed) > 0) != (file == "airflow-compressed.db") {
						t.Errorf("%s: %d compressed bytes", row.ID, len(row.Compressed))
					}
					if !strings.HasPrefix(row.File, "/opt/airflow/") ||
						(row.RelativeFile != "") != (version >= "3") {
						t.Errorf("%s: file %q, relative %q", row.ID, row.File, row.RelativeFile)
					}
					found, err := parse(row)
					if err != nil {
						t.Fatalf("%s: %v", row.ID, err)
					}
					for i, d := range found {
						if i > 0 && !slices.Contains(row.SubDAGs, d.ID) {
							t.Errorf("%s is not among the SubDAGs %q of %s",
								d.ID, row.SubDAGs, row.ID)
						}
						s := seen{
							Users: d.Users, Unnamed: d.Unnamed, Connections: d.Connections,
							Format: d.Format, Version: row.Version, Bundle: row.Bundle,
							Team: row.Team,
						}
						for _, skip := range d.Skipped {
							s.Skipped = append(s.Skipped, skip.String())
						}
						got[d.ID] = s
						for _, u := range d.Users {
							users[u] = append(users[u], d.ID)
						}
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("DAGs (-want +got):\n%s", diff)
				}
				for _, ids := range users {
					slices.Sort(ids)
				}
				for user, ids := range e.Users {
					// The list has all DAGs, even the one that was deleted.
					ids = slices.DeleteFunc(ids, func(id string) bool { return !e.DAGs[id].Active })
					if e.Users[user] = ids; len(ids) == 0 {
						delete(e.Users, user)
					}
				}
				if diff := cmp.Diff(e.Users, users); diff != "" {
					t.Errorf("users (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// hostile is what must happen with one document.
type hostile struct {
	Outcome   string   `json:"outcome"`
	Reason    string   `json:"reason"`
	RunAsUser []string `json:"run_as_user"`
}

func TestHostileDocumentsLoseOnlyTheirOwnDAG(t *testing.T) {
	var e struct {
		DAGs map[string]hostile `json:"dags"`
	}
	readJSON(t, "testdata/hostile/expected.json", &e)
	if len(e.DAGs) != 98 {
		t.Fatalf("%d documents: the data is not what it was", len(e.DAGs))
	}
	checked := 0
	for _, row := range rows(t, openCopy(t, "testdata/hostile/airflow.db")) {
		want, ok := e.DAGs[row.ID]
		if !ok {
			t.Errorf("unexpected DAG %q", row.ID)
			continue
		}
		checked++
		reasons, users := []string{}, []string{}
		if row.Refused != "" {
			reasons = append(reasons, row.Refused)
		} else if found, err := parse(row); err != nil {
			if conn.KindOf(err) != conn.Invalid {
				t.Errorf("%q: kind %v", row.ID, conn.KindOf(err))
			}
			reasons = append(reasons, strings.TrimPrefix(err.Error(), "metastore: invalid: "))
		} else {
			if len(found) != 1 || found[0].ID != row.ID {
				t.Errorf("%q: found %+v", row.ID, found)
			}
			users = found[0].Users
			for _, s := range found[0].Skipped {
				reasons = append(reasons, s.Reason)
				line := s.String()
				if len(line) > 300 || strings.ContainsFunc(line, unprintable) {
					t.Errorf("%q: not fit for a log: %q", row.ID, line)
				}
			}
		}
		if diff := want.differs(row.ID, users, reasons); diff != "" {
			t.Errorf("%q: %s", row.ID, diff)
		}
	}
	if checked != 98 {
		t.Errorf("%d of 98 documents were seen", checked)
	}
}

func unprintable(r rune) bool { return r < 0x20 || r > 0x7e }

// differs returns what is wrong with an outcome, or "".
func (h hostile) differs(id string, users, reasons []string) string {
	switch h.Outcome {
	case "ignored":
		return cmp.Diff([]string{}, users) + cmp.Diff([]string{h.Reason}, reasons)
	case "used":
		return cmp.Diff(h.RunAsUser, users) + cmp.Diff([]string{}, reasons)
	case "partly":
		return cmp.Diff(h.RunAsUser, users) + cmp.Diff([]string{h.Reason}, reasons)
	case "either":
		if len(users) > 0 {
			// Some parts may be skipped, as long as nobody is added.
			return cmp.Diff(h.RunAsUser, users)
		}
		if !slices.Contains(reasons, h.Reason) {
			return "without users, and the reasons are " + strings.Join(reasons, ", ")
		}
		return ""
	}
	return "unknown outcome " + h.Outcome
}
