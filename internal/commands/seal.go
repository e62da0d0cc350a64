package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/python"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/spelling"
)

// maxSealed is the size in bytes of the largest value that is sealed or unsealed, which is also
// the largest that is served.
const maxSealed = 1 << 20

// SealValue seals or unseals, as req says, the value in in, and writes the new value to out. The
// value is only ever in locked memory and in a resolver child.
func SealValue(
	ctx context.Context, s *session.Session, req *resolver.SealRequest, in io.Reader, out io.Writer,
) (*resolver.SealAnswer, error) {
	memory, err := cache.NewRegion(maxSealed + 1)
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	if err := memory.LockError(); err != nil && s.Front.MemoryLock != "try" {
		return nil, &conn.Error{
			Kind: conn.Failed, Reason: "memory for the value cannot be locked", Err: err,
			Hint: `raise the limit with "ulimit -l", or set memory_lock = "try"`,
		}
	}
	n, err := io.ReadFull(in, memory.Bytes())
	switch {
	case err == nil:
		return nil, conn.Errorf(conn.TooLarge, "standard input",
			"the value is longer than %d bytes, and connfs serves no such value", maxSealed)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("reading the value: %w", err)
	}
	done, v, err := s.Pool.Seal(ctx, req, memory.Bytes()[:n])
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, conn.Errorf(conn.Failed, "", "the resolver answered without a value")
	}
	defer v.Release()
	if err := writeValue(out, v); err != nil {
		return nil, err
	}
	return done, nil
}

// SealedRow is what became of one row of the metastore.
type SealedRow struct {
	ID string
	resolver.SealAnswer
	Err error // set: nothing was changed, unless the answer to a commit was lost
}

// maxOutage is how many rows in a row may fail because a database or KMS does not answer. Then the
// other rows are not tried.
const maxOutage = 3

// SealRows seals or unseals, as req says, each row of the metastore whose id matches one of
// patterns. It calls total with the number of rows first, and each after every row. It goes on
// after a row that failed, but not through an outage, and when ctx ends, it stops after the row
// that it is at. Its error says that the rows cannot be listed, that a pattern matches no row, that
// there is no such KMS, or that rows were not tried.
func SealRows(
	ctx context.Context, s *session.Session, req resolver.SealRequest, patterns []string,
	total func(int), each func(SealedRow),
) error {
	all, err := s.Pool.SealRows(ctx, req)
	if err != nil {
		return err
	}
	ids, err := matching(all, patterns, req.Action)
	if err != nil {
		return err
	}
	total(len(ids))
	outage := 0
	for i, id := range ids {
		one := req
		one.ID, one.Row = id, true
		row := SealedRow{ID: id}
		if ctx.Err() != nil {
			return stopped(ids, i)
		}
		done, _, err := s.Pool.Seal(context.WithoutCancel(ctx), &one, nil)
		if row.Err = err; err == nil {
			row.SealAnswer = *done
		}
		each(row)
		kind := conn.KindOf(err)
		if err == nil || kind != conn.Unreachable && kind != conn.Timeout {
			outage = 0
			continue
		}
		if outage++; outage == maxOutage && i+1 < len(ids) {
			e := conn.Errorf(conn.Unreachable, "",
				"%d rows in a row failed like this, and %d more were not tried",
				outage, len(ids)-i-1)
			e.Hint = "run the command again later: rows that are done stay as they are"
			return e
		}
	}
	return nil
}

// stopped is the error of a command that somebody stopped before the row ids[next].
func stopped(ids []string, next int) error {
	where := "before the first row"
	if next > 0 {
		where = fmt.Sprintf("after the row %q", ids[next-1])
	}
	e := conn.Errorf(conn.Failed, "", "stopped %s; %d rows were not tried", where, len(ids)-next)
	e.Hint = "run the command again: rows that are done stay as they are"
	return e
}

// matching returns the ids that match one of patterns, sorted. A pattern that is itself an id
// matches that id alone.
func matching(all, patterns []string, action string) ([]string, error) {
	var ids []string
	for _, p := range patterns {
		before := len(ids)
		if _, ok := slices.BinarySearch(all, p); ok {
			ids = append(ids, p)
			continue
		}
		for _, id := range all {
			if python.Fnmatch(p, id) {
				ids = append(ids, id)
			}
		}
		if len(ids) == before && action != resolver.ActionRotate {
			what := "row"
			if action != resolver.ActionSeal {
				what = "sealed row"
			}
			e := conn.Errorf(conn.Absent, "metastore", "no %s has an id like %q", what, p)
			e.Hint = spelling.DidYouMean(p, all)
			return nil, e
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
