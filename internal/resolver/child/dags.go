package child

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/dags"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/metastore"
)

// dags reads the serialized DAGs that changed since the revisions in known. A document that
// is broken or hostile costs only its own DAG, and the answer says why.
func (s *server) dags(ctx context.Context, known []byte) ([]byte, error) {
	revisions := make(map[string]string)
	if err := json.Unmarshal(known, &revisions); err != nil {
		return nil, conn.Errorf(conn.Failed, "", "the question about DAGs is not readable")
	}
	m, ok := resolve.Find[*metastore.Store](s.path)
	if !ok {
		return nil, conn.Errorf(conn.Absent, "", "no metastore is configured")
	}
	rows := []resolver.DAGRow{}
	err := m.DAGs(ctx, revisions, func(d metastore.SerializedDAG) error {
		rows = append(rows, dagRow(d))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(rows)
}

// dagRow returns what a row says.
func dagRow(d metastore.SerializedDAG) resolver.DAGRow {
	row := resolver.DAGRow{Key: d.Key, Revision: d.Revision, ID: d.ID}
	switch {
	case d.Refused != "":
		row.Skipped = []string{d.Refused}
		return row
	case !d.Fetched:
		row.Unchanged = true
		return row
	}
	all, err := dags.Parse(dags.Document{ID: d.ID, Data: d.Data, Compressed: d.Compressed})
	if err != nil {
		row.Skipped = []string{reason(err)}
		return row
	}
	for _, one := range all {
		if one.ID != d.ID && !slices.Contains(d.SubDAGs, one.ID) {
			continue // a SubDAG that Airflow does not count as active
		}
		row.DAGs = append(row.DAGs, resolver.DAG{
			Fact: policy.Fact{
				DAG: one.ID, File: d.File, Bundle: d.Bundle, Team: d.Team, Users: one.Users,
				Unnamed: one.Unnamed,
			},
			Connections: one.Connections,
		})
		for _, skip := range one.Skipped {
			row.Skipped = append(row.Skipped, skip.String())
		}
	}
	return row
}
