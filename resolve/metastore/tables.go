package metastore

import (
	"errors"

	"github.com/connfs/connfs/conn"
)

// tables are those that a statement reads: what its failures are about.
type tables struct {
	schema string   // where they are, not quoted; empty: the default
	names  []string // not quoted
	called string   // what people call them, without an article
	are    string   // "is" or "are"
	rights string   // the hint where they may not be read; may be empty
}

// connections is the table connection.
func (m *Store) connections() tables {
	return tables{schema: m.settings.Schema, names: []string{"connection"},
		called: "table connection", are: "is"}
}

// serialized are tables around serialized_dag.
func (m *Store) serialized(names ...string) tables {
	return tables{
		schema: m.settings.Schema, names: names, called: "tables of serialized DAGs", are: "are",
		rights: "it needs SELECT on serialized_dag and dag, in Airflow 3 also on dag_version," +
			" task_instance, dag_bundle_team and team",
	}
}

// errNoTable is in the chain of the error where a table is missing.
var errNoTable = errors.New("no such table")

// missing is the answer of a database without these tables: an outage, not an answer about any
// connection.
func (t tables) missing(cause error) *conn.Error {
	return &conn.Error{
		Kind: conn.Unreachable, Source: "metastore", Err: errors.Join(errNoTable, cause),
		Reason: "the database has no " + t.called,
		Hint:   "is this Airflow's database, and sql_alchemy_schema right?",
	}
}

// unreadable is the answer of a server that does not let its user read them; detail says in
// the server's own way what it answered.
func (t tables) unreadable(detail string) *conn.Error {
	reason := "the database user may not read the " + t.called + detail
	return &conn.Error{Kind: conn.Denied, Reason: reason, Hint: t.rights}
}

// locked is the answer of a server where somebody else has locked them.
func (t tables) locked(detail string) *conn.Error {
	return conn.Errorf(conn.Timeout, "", "the %s %s locked%s", t.called, t.are, detail)
}
