package metastore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SerializedDAG is a serialized DAG as the metastore keeps it, with what Airflow
// recorded about where the DAG came from. Package internal/dags reads the document.
type SerializedDAG struct {
	// Key names the row among all of the metastore, from one reading to the next: the
	// dag_id up to Airflow 2.11, the id of the version in 3.x, where a DAG has a row for
	// its newest version and others for older ones that tasks still run.
	Key string
	// Revision is another one whenever the document may be another, or something else in
	// here is.
	Revision string
	// ID is the dag_id.
	ID string
	// Version is the version_number of 3.x, otherwise 0.
	Version int64
	// File is the absolute path of the DAG's file, empty where it is not known.
	File string
	// RelativeFile is its path in the bundle, of 3.x.
	RelativeFile string
	// Bundle is the bundle of 3.x that the document came from. Empty before 3.x, and
	// where the metastore names two: a DAG of that id was then last seen in another
	// bundle than its newest version, and either may be an impostor.
	Bundle string
	// Team is the one team that owns the bundle, from 3.1 on.
	Team string
	// SubDAGs are the ids of the active SubDAGs of the DAG, of any depth, up to 2.x.
	// They have no rows of their own: their documents are inside this one.
	SubDAGs []string
	// Refused says why the row does not count, in words, empty if it does. There is no
	// document then. That a document is too large is found out when it is read, and not
	// said again to a caller who knows its Revision.
	Refused string

	// Fetched says that the document was read: that of a row whose Revision the caller
	// knows is not.
	Fetched bool
	// Data and Compressed are the columns of the document; nil for NULL.
	Data, Compressed []byte
}

// Limits on what is read. Documents larger than maxSerialized are refused unread.
const (
	maxSerialized = 32 << 20 // bytes of one column
	dagBatch      = 100      // documents in one query
	dagBatchSize  = 16 << 20 // bytes in one query, unless one document alone is larger
)

// pinning are the states of a task instance that holds on to its DAG version: it runs,
// or will without Airflow choosing a version again.
const pinning = "'running', 'restarting', 'queued', 'deferred'"

// DAGs calls each for every serialized DAG that is active: not is_stale in 3.x,
// is_active before, paused ones included. First come those whose Revision is
// known[Key], without their documents, then the others. It is thus a small query where
// nothing has changed; documents are read in batches, by their keys. An error of each
// ends it and is returned; after any error the calls made so far are no full answer.
//
// It needs SELECT on serialized_dag and dag, in 3.x on dag_version and task_instance,
// and on dag_bundle_team and team where there are such tables. Errors are of kind
// Unreachable, Denied or Timeout.
func (m *Store) DAGs(ctx context.Context, known map[string]string,
	each func(SerializedDAG) error) error {
	if err := m.greet(ctx); err != nil {
		return err
	}
	r := &dagReader{m: m}
	all, err := r.index(ctx)
	if err != nil {
		return err
	}
	var wanted []SerializedDAG
	for _, d := range all {
		if revision, ok := known[d.Key]; d.Refused == "" && (!ok || revision != d.Revision) {
			wanted = append(wanted, d)
		} else if err := each(d); err != nil {
			return err
		}
	}
	for len(wanted) > 0 {
		chunk := wanted[:min(len(wanted), dagBatch)]
		wanted = wanted[len(chunk):]
		sizes, err := r.sizes(ctx, chunk)
		if err != nil {
			return err
		}
		for len(chunk) > 0 {
			n, size := 0, int64(0)
			for n < len(chunk) && (n == 0 || size+sizes[chunk[n].Key] <= dagBatchSize) {
				size += sizes[chunk[n].Key]
				n++
			}
			fetched, err := r.documents(ctx, chunk[:n])
			if err != nil {
				return err
			}
			for _, d := range fetched {
				if err := each(d); err != nil {
					return err
				}
			}
			chunk = chunk[n:]
		}
	}
	return nil
}

// dagsLogin bounds the login before DAGs are read. The reading may take long where there
// are thousands; a server that does not even answer is found out soon.
const dagsLogin = 5 * time.Second

func (m *Store) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dagsLogin)
	defer cancel()
	return m.db.read(ctx, m.serialized(), func(context.Context, *sql.Conn) error { return nil })
}

// dagReader reads with the columns that this version of Airflow has.
type dagReader struct {
	m          *Store
	versioned  bool // 3.x
	compressed bool // there is a column data_compressed
}

func (r *dagReader) table(name string) string { return r.m.schema + r.m.db.quote(name) }

// index returns all active DAGs without their documents.
func (r *dagReader) index(ctx context.Context) ([]SerializedDAG, error) {
	serialized, err := r.columns(ctx, "serialized_dag")
	if err != nil {
		return nil, err
	}
	dag, err := r.columns(ctx, "dag")
	if err != nil {
		return nil, err
	}
	r.versioned, r.compressed = serialized["dag_version_id"], serialized["data_compressed"]
	if !r.versioned {
		return r.unversionedIndex(ctx, dag)
	}
	teams, err := r.teams(ctx)
	if err != nil {
		return nil, err
	}
	return r.versionedIndex(ctx, teams)
}

// columns returns the columns of a table. Each look has a transaction of its own, since
// PostgreSQL ends one with the first error.
func (r *dagReader) columns(ctx context.Context, table string) (map[string]bool, error) {
	var columns map[string]bool
	err := r.m.db.read(ctx, r.m.serialized(table), func(ctx context.Context, c *sql.Conn) error {
		rows, err := c.QueryContext(ctx, "SELECT * FROM "+r.table(table)+" WHERE 1 = 0")
		if err != nil {
			return err
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			return err
		}
		columns = make(map[string]bool, len(names))
		for _, name := range names {
			columns[name] = true
		}
		return rows.Err()
	})
	return columns, err
}

// optional is columns for a table that not every version has: nil where it is missing.
func (r *dagReader) optional(ctx context.Context, table string) (map[string]bool, error) {
	columns, err := r.columns(ctx, table)
	if errors.Is(err, errNoTable) {
		return nil, nil
	}
	return columns, err
}

// tables are those that every query of this version reads.
func (r *dagReader) tables() tables {
	if r.versioned {
		return r.m.serialized("serialized_dag", "dag", "dag_version", "task_instance")
	}
	return r.m.serialized("serialized_dag", "dag")
}

// query calls f for each row. It may begin again, with start, on another connection.
func (r *dagReader) query(ctx context.Context, start func(), text string, arguments []any,
	f func(*row) error) error {
	return r.m.db.read(ctx, r.tables(), func(ctx context.Context, c *sql.Conn) error {
		start()
		rows, err := c.QueryContext(ctx, text, arguments...)
		if err != nil {
			return err
		}
		defer rows.Close()
		one, err := newAnyRow(rows, r.m.db)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := one.scan(rows); err != nil {
				return err
			}
			if err := f(one); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// unversionedIndex is the index of Airflow up to 2.11.
func (r *dagReader) unversionedIndex(ctx context.Context, dag map[string]bool) (
	[]SerializedDAG, error) {
	subDAGs := make(map[string][]string)
	if dag["is_subdag"] && dag["root_dag_id"] {
		err := r.query(ctx, func() { clear(subDAGs) },
			"SELECT dag_id, root_dag_id FROM "+r.table("dag")+
				" WHERE is_subdag AND is_active ORDER BY dag_id", nil,
			func(one *row) error {
				id, ok := one.text("dag_id")
				if root, rooted := one.text("root_dag_id"); ok && rooted {
					subDAGs[root] = append(subDAGs[root], id)
				}
				return nil
			})
		if err != nil {
			return nil, err
		}
	}
	var all []SerializedDAG
	err := r.query(ctx, func() { all = nil },
		"SELECT s.dag_id, s.dag_hash, s.last_updated, d.dag_id AS known_id, d.is_active, d.fileloc"+
			" FROM "+r.table("serialized_dag")+" s"+
			" LEFT JOIN "+r.table("dag")+" d ON d.dag_id = s.dag_id", nil,
		func(one *row) error {
			var d SerializedDAG
			d.ID, _ = one.text("dag_id")
			d.Key = d.ID
			d.SubDAGs = subDAGs[d.ID]
			if !d.describe(one) {
				return nil
			}
			if active, err := one.flag("is_active"); d.Refused == "" && (err != nil || !active) {
				return nil
			}
			d.Revision = d.revision(one)
			all = append(all, d)
			return nil
		})
	return all, err
}

// describe takes over what the table dag says, if the joined row is of the same DAG:
// collations of MySQL take other ids for equal. It returns false for a row that has no
// id to speak of.
func (d *SerializedDAG) describe(one *row) bool {
	if !validText(d.ID) || d.ID == "" || d.Key == "" {
		return false
	}
	if id, ok := one.text("known_id"); !ok || id != d.ID {
		d.Refused = "no row in dag"
		return true
	}
	d.File, _ = one.text("fileloc")
	d.RelativeFile, _ = one.text("relative_fileloc")
	return true
}

// versionedIndex is the index of 3.x: the newest version of each DAG, and those that
// running tasks hold on to.
func (r *dagReader) versionedIndex(ctx context.Context, teams map[string]string) (
	[]SerializedDAG, error) {
	version := r.table("dag_version")
	selection := "SELECT v.id AS version_id, v.dag_id AS version_dag_id, v.version_number," +
		" v.bundle_name AS version_bundle, s.dag_id, s.dag_hash, s.last_updated," +
		" d.dag_id AS known_id, d.is_stale, d.fileloc, d.relative_fileloc, d.bundle_name" +
		" FROM " + r.table("serialized_dag") + " s" +
		" JOIN " + version + " v ON v.id = s.dag_version_id" +
		" LEFT JOIN " + r.table("dag") + " d ON d.dag_id = s.dag_id"
	var all []SerializedDAG
	seen := make(map[string]bool)
	for _, q := range []struct {
		condition string
		newest    bool
	}{
		{" JOIN (SELECT dag_id, MAX(version_number) AS number FROM " + version +
			" GROUP BY dag_id) newest" +
			" ON newest.dag_id = v.dag_id AND newest.number = v.version_number", true},
		{" WHERE v.id IN (SELECT dag_version_id FROM " + r.table("task_instance") +
			" WHERE state IN (" + pinning + ") AND dag_version_id IS NOT NULL)", false},
	} {
		var found []SerializedDAG
		err := r.query(ctx, func() { found = nil }, selection+q.condition, nil,
			func(one *row) error {
				var d SerializedDAG
				d.Key, _ = one.text("version_id")
				d.ID, _ = one.text("dag_id")
				d.Version, _ = one.value("version_number").(int64)
				if id, ok := one.text("version_dag_id"); !ok || id != d.ID {
					d.Refused = "version is of another DAG"
				} else if !d.describe(one) {
					return nil
				}
				// A DAG that is not known to be fresh counts as stale, as Airflow's default says.
				if stale, err := one.flag("is_stale"); d.Refused == "" &&
					(err != nil || stale || one.value("is_stale") == nil) {
					return nil
				}
				d.Bundle = bundle(one, q.newest)
				d.Team = teams[d.Bundle]
				d.Revision = d.revision(one)
				found = append(found, d)
				return nil
			})
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			if !seen[d.Key] {
				seen[d.Key] = true
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// bundle returns the bundle that a version came from. The row in dag follows whatever
// was parsed last under that id, which counts against a newest version only.
func bundle(one *row, newest bool) string {
	last, _ := one.text("bundle_name")
	bundle, ok := one.text("version_bundle")
	if !ok {
		bundle = last
	}
	if newest && bundle != last {
		return ""
	}
	return bundle
}

// teams returns the team of each bundle that has exactly one. 3.1 links them by
// number, later versions by name.
func (r *dagReader) teams(ctx context.Context) (map[string]string, error) {
	columns, err := r.optional(ctx, "dag_bundle_team")
	if err != nil {
		return nil, err
	}
	query := "SELECT dag_bundle_name, team_name FROM " + r.table("dag_bundle_team")
	switch {
	case columns["team_name"]:
	case columns["team_id"]:
		query = "SELECT b.dag_bundle_name, t.name AS team_name FROM " + r.table("dag_bundle_team") +
			" b JOIN " + r.table("team") + " t ON t.id = b.team_id"
	default:
		return nil, nil
	}
	teams, links := make(map[string]string), make(map[string]int)
	err = r.query(ctx, func() { clear(teams); clear(links) }, query, nil, func(one *row) error {
		bundle, _ := one.text("dag_bundle_name")
		teams[bundle], _ = one.text("team_name")
		if links[bundle]++; links[bundle] > 1 {
			teams[bundle] = ""
		}
		return nil
	})
	return teams, err
}

// revision tells states of one row apart. dag_hash alone would do for the documents
// that Airflow writes, except that 1.10 had rows without one; but a DAG can move to
// another file, bundle or team, or lose a SubDAG, and its document stay as it is.
func (d *SerializedDAG) revision(one *row) string {
	hash, _ := one.text("dag_hash")
	updated := one.value("last_updated")
	switch v := updated.(type) {
	case time.Time:
		updated = v.UTC()
	case []byte:
		updated = string(v)
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q", hash, fmt.Sprint(updated),
		d.Refused, d.File, d.RelativeFile, d.Bundle, d.Team, d.SubDAGs))
	return hex.EncodeToString(digest[:16])
}

// keyColumn is the column of serialized_dag that a key is in.
func (r *dagReader) keyColumn() string {
	if r.versioned {
		return "dag_version_id"
	}
	return "dag_id"
}

// documentColumns are the columns that a document can be in.
func (r *dagReader) documentColumns() []string {
	if r.compressed {
		return []string{"data", "data_compressed"}
	}
	return []string{"data"}
}

// length returns the expression for the length of a column in bytes.
func (r *dagReader) length(column string) string {
	switch r.m.db.(type) {
	case postgres:
		if column == "data" {
			column += "::text"
		}
		return "octet_length(" + column + ")"
	case mysqlServer:
		return "LENGTH(" + column + ")"
	default:
		return "length(CAST(" + column + " AS BLOB))"
	}
}

// where returns the condition that a row is one of these, and its arguments.
func (r *dagReader) where(wanted []SerializedDAG) (string, []any) {
	marks, arguments := make([]string, len(wanted)), make([]any, len(wanted))
	for i, d := range wanted {
		marks[i] = strings.Replace(r.m.db.placeholder(), "1", strconv.Itoa(i+1), 1)
		arguments[i] = d.Key
	}
	return " FROM " + r.table("serialized_dag") + " WHERE " + r.keyColumn() + " IN (" +
		strings.Join(marks, ", ") + ")", arguments
}

// sizes returns how large the documents are, in bytes.
func (r *dagReader) sizes(ctx context.Context, wanted []SerializedDAG) (map[string]int64, error) {
	sizes := make(map[string]int64, len(wanted))
	selection := "SELECT " + r.keyColumn()
	for _, column := range r.documentColumns() {
		selection += ", " + r.length(column) + " AS " + column
	}
	where, arguments := r.where(wanted)
	err := r.query(ctx, func() { clear(sizes) }, selection+where, arguments, func(one *row) error {
		key, _ := one.text(r.keyColumn())
		for _, column := range r.documentColumns() {
			size, _ := one.value(column).(int64)
			sizes[key] += min(size, maxSerialized) // what is larger stays where it is
		}
		return nil
	})
	return sizes, err
}

// documents returns those of wanted that are still there, with their documents and
// the revisions of those.
func (r *dagReader) documents(ctx context.Context, wanted []SerializedDAG) (
	[]SerializedDAG, error) {
	index := make(map[string]SerializedDAG, len(wanted))
	for _, d := range wanted {
		index[d.Key] = d
	}
	selection := "SELECT dag_id AS found_id, " + r.keyColumn() + ", dag_hash, last_updated"
	for _, column := range r.documentColumns() {
		length := r.length(column)
		selection += fmt.Sprintf(", CASE WHEN %s <= %d THEN %s END AS %s,"+
			" CASE WHEN %s > %d THEN 1 ELSE 0 END AS %s_is_large",
			length, maxSerialized, column, column, length, maxSerialized, column)
	}
	where, arguments := r.where(wanted)
	var found []SerializedDAG
	err := r.query(ctx, func() { found = nil }, selection+where, arguments, func(one *row) error {
		key, _ := one.text(r.keyColumn())
		d, ok := index[key]
		if id, _ := one.text("found_id"); !ok || id != d.ID {
			return nil
		}
		d.Revision, d.Fetched = d.revision(one), true
		d.Data, d.Compressed = octets(one.value("data")), octets(one.value("data_compressed"))
		for _, column := range r.documentColumns() {
			if large, err := one.flag(column + "_is_large"); err != nil || large {
				d.Refused, d.Data, d.Compressed = "too large", nil, nil
				break
			}
		}
		found = append(found, d)
		return nil
	})
	return found, err
}

// octets returns a column of whatever type as bytes, nil for NULL.
func octets(value any) []byte {
	switch v := value.(type) {
	case nil:
		return nil
	case []byte:
		return v
	case string:
		return []byte(v)
	default:
		return fmt.Append(nil, v)
	}
}
