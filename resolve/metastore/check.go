package metastore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/connfs/connfs/conn"
)

// maxChecked is how many rows a check looks at.
const maxChecked = 100_000

// Check implements [backend.Checker]: it lists the ids, and tries the Fernet keys on the rows.
func (m *Store) Check(ctx context.Context) []conn.Check {
	_, err := m.List(ctx)
	list := conn.Check{Call: "list", Err: err}
	if err != nil {
		return []conn.Check{list}
	}
	return []conn.Check{list, m.checkKeys(ctx)}
}

// tally counts rows.
type tally struct {
	rows      int // all that were looked at
	clear     int // with a password or an extra in clear
	encrypted int
	closed    int  // encrypted, and no key opens them
	part      bool // there are more rows
}

// checkKeys counts the encrypted rows that open with none of the keys. It shows nothing of them.
func (m *Store) checkKeys(ctx context.Context) conn.Check {
	// What was counted until then is better than no answer in time.
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)*3/4)
		defer cancel()
	}
	var t tally
	err := m.db.read(ctx, m.connections(), func(ctx context.Context, c *sql.Conn) error {
		t = tally{}
		return m.eachBounded(ctx, c, m.bounded(""), nil, func(_ string, r *row) error {
			if t.rows == maxChecked {
				return errEnough
			}
			t.count(m, r)
			return nil
		})
	})
	if t.part = err != nil && t.rows > 0; err != nil && !t.part {
		return conn.Check{Call: "fernet_key", Err: err}
	}
	return t.check(m.settings.FernetKey != "")
}

// errEnough ends a query.
var errEnough = errors.New("enough rows")

// count counts a row.
func (t *tally) count(m *Store, r *row) {
	t.rows++
	if r.large() {
		return
	}
	var clear, encrypted, closed bool
	for column, flag := range map[string]string{
		"password": "is_encrypted", "extra": "is_extra_encrypted",
	} {
		text, err := r.field(column)
		flagged, flagErr := r.flag(flag)
		switch {
		case err != nil || flagErr != nil || text == nil || *text == "" || conn.IsSealed(*text):
		case !flagged:
			clear = true
		default:
			encrypted = true
			if _, err := m.secret(r, column, flag); conn.KindOf(err) == conn.KeyRejected {
				closed = err != nil
			}
		}
	}
	for counter, yes := range map[*int]bool{
		&t.clear: clear, &t.encrypted: encrypted, &t.closed: closed,
	} {
		if yes {
			*counter++
		}
	}
}

// check says what the counts mean.
func (t *tally) check(key bool) conn.Check {
	c := conn.Check{Call: "fernet_key"}
	of := ""
	if t.part {
		of = fmt.Sprintf(" (of the first %d)", t.rows)
	}
	switch {
	case !key && t.encrypted > 0:
		c.Err = &conn.Error{
			Kind: conn.KeyRejected, Source: "metastore",
			Reason: fmt.Sprintf("%s encrypted, and no key is configured%s", areRows(t.encrypted),
				of),
			Hint: "set [core] fernet_key, or fernet_key in config.toml",
		}
	case t.closed > 0:
		c.Err = &conn.Error{
			Kind: conn.KeyRejected, Source: "metastore",
			Reason: fmt.Sprintf("%d of %d encrypted rows open with none of the keys%s", t.closed,
				t.encrypted, of),
			Hint: "is it this database's key? After a rotation, list the old one too",
		}
	case !key && t.clear > 0:
		c.Note = fmt.Sprintf("no key is configured, and %s in clear: whoever can read the "+
			"database can read the passwords%s", areRows(t.clear), of)
	case !key:
		c.Call = "fernet_key: there is none, and no row that needs one" + of
	default:
		c.Call = fmt.Sprintf("fernet_key opens all %d encrypted rows%s", t.encrypted, of)
	}
	return c
}

// areRows says how many rows there are.
func areRows(n int) string {
	if n == 1 {
		return "1 row is"
	}
	return fmt.Sprintf("%d rows are", n)
}
