// Package dags reads Airflow's serialized DAGs: which users the tasks of a DAG run
// as, and which connections its document mentions. It never runs or imports DAG code.
// It follows Airflow's own reader wherever that is safe; where it is not, the document
// does not count, so that no DAG gets a user that it should not have.
//
// Everybody who can write to the metastore can write documents; in Airflow 2 every task
// can. So the package trusts nothing: size, depth and number of values are bounded, text
// is checked before it is used as a name, and it returns nothing that is not in the
// document. It runs in the resolver child only.
package dags

import (
	"errors"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
)

// Limits on one document. Airflow itself sets none.
const (
	maxDocument = 32 << 20 // bytes, inflated
	maxDepth    = 512      // nested arrays and objects; Python stops at about 1,000
	maxValues   = 2 << 20
	maxTasks    = 100_000
	maxUsers    = 1000
	maxSkips    = 100 // skipped parts that are reported one by one; the others are counted
	maxDAGID    = 250 // characters, as in Airflow
)

// Document is a row of the table serialized_dag.
type Document struct {
	// ID is the dag_id of the row.
	ID string
	// Data is the column data, nil for SQL NULL.
	Data []byte
	// Compressed is the column data_compressed, nil for SQL NULL and if this version
	// of Airflow has no such column. If it is not empty, it counts and Data does not,
	// which then is the JSON text null.
	Compressed []byte
}

// DAG is what connfs needs to know of a DAG.
type DAG struct {
	ID string
	// Users are the distinct run_as_user of the tasks, sorted: user names as they are
	// written (also "1234" is a name), and "#1234" for a uid, without leading zeros.
	// Names are not looked up: they may be unknown, or names of uid 0 other than root.
	Users []string
	// Unnamed is true if some task names no user, so that [core] default_impersonation
	// decides about it.
	Unnamed bool
	// Connections are connection ids in the document, sorted: hints to start grants from.
	// Ids in Python code are not among them, and some of them are not ids: any word among
	// the positional arguments of a Python task counts as one.
	Connections []string
	// Format is the document's __version: 1 up to Airflow 2.11, 2 in 3.0, 3 from 3.1 on.
	Format int
	// Skipped are the parts of the DAG that do not count, while the rest does.
	Skipped []Skip
}

// Skip is a part of a document that does not count.
type Skip struct {
	Task   string // task_id, or the number of the task in the list; cut and quoted
	Reason string
	Value  string // a run_as_user that is not a user, cut and quoted; else empty
}

// String returns the skip as one line of printable text.
func (s Skip) String() string {
	text := s.Reason
	if s.Task != "" {
		text = "task " + s.Task + ": " + text
	}
	if s.Value != "" {
		text += ": " + s.Value
	}
	return text
}

// The reasons for which a whole document does not count, and after them those for which a
// part of it does not.
const (
	reasonNoDocument     = "no document"
	reasonTooLarge       = "too large"
	reasonDamaged        = "compressed data is damaged"
	reasonNotJSON        = "not JSON"
	reasonNotUTF8        = "not UTF-8"
	reasonTooDeep        = "nested too deep"
	reasonTrailing       = "text after the document"
	reasonNotObject      = "not an object"
	reasonVersion        = "unknown serialization version"
	reasonNoDAG          = "no dag"
	reasonNotDAGID       = "not a DAG id"
	reasonOtherDAG       = "document is of another DAG"
	reasonNoTasks        = "no tasks"
	reasonTasksNotList   = "tasks is not a list"
	reasonTooManyTasks   = "too many tasks"
	reasonTooManyUsers   = "too many users"
	reasonClientDefaults = "client_defaults is not an object"
	reasonDuplicate      = "duplicate key"

	reasonNotOperator   = "task is not an operator"
	reasonUserNotText   = "run_as_user is not text"
	reasonNotUser       = "not a user name"
	reasonNotUID        = "not a uid"
	reasonPartialKwargs = "partial_kwargs is not an object"
	reasonNotSubDAG     = "SubDAG is not a DAG"
	reasonOtherSubDAG   = "SubDAG is of another DAG"
	reasonMoreSkipped   = "more tasks do not count"
	reasonNotImplicit   = "uid %d is not granted implicitly"
)

// Parse reads a document and returns its DAG, and after it the SubDAGs inside it
// (Airflow 1.10 and 2), each with an id of its own, PARENT.TASK. Its error is of
// kind Invalid, and its Reason says why the whole document does not count.
func Parse(d Document) ([]DAG, error) {
	if !validID(d.ID) {
		return nil, invalid(reasonNotDAGID)
	}
	text, err := d.text()
	if err != nil {
		return nil, err
	}
	doc, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	all, err := parseDocument(doc, d.ID)
	if err != nil {
		return nil, err
	}
	if doc.duplicate {
		// Python keeps the last of them, and another reader the first.
		return nil, invalid(reasonDuplicate)
	}
	return all, nil
}

func invalid(reason string) error { return conn.Errorf(conn.Invalid, "metastore", "%s", reason) }

// validID follows Airflow's rule for dag ids.
func validID(id string) bool {
	if id == "" || utf8.RuneCountInString(id) > maxDAGID || !utf8.ValidString(id) {
		return false
	}
	for _, r := range id {
		if r != '_' && r != '-' && r != '.' && !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			return false
		}
	}
	return true
}

// quote cuts and quotes text for a log line.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.QuoteToASCII(s)
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "..."
}

// sorted returns the keys of a set in order.
func sorted(set map[string]bool) []string {
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func reasonOf(err error) string {
	var e *conn.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return err.Error()
}
