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
)

// maxSealed bounds what is read to be sealed or unsealed: more is never served.
const maxSealed = 1 << 20

// SealValue does what req says with the value that in holds, and writes the new value to
// out. The value goes from one to the other through locked memory and a resolver child.
func SealValue(ctx context.Context, s *session.Session, req *resolver.SealRequest, in io.Reader, out io.Writer) (*resolver.SealAnswer, error) {
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
		return nil, conn.Errorf(conn.TooLarge, "standard input", "the value is over %d bytes long, and none such is served", maxSealed)
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
	for _, part := range v.Slices(0, v.Size()) {
		if _, err := out.Write(part); err != nil {
			return nil, fmt.Errorf("writing the connection: %w", err)
		}
	}
	return done, nil
}

// SealedRow is what became of one row of the metastore.
type SealedRow struct {
	ID string
	resolver.SealAnswer
	Err error // set: nothing was changed, unless the answer to a commit was lost
}

// maxOutage is after how many rows in a row that nobody answered for the others are not
// even tried.
const maxOutage = 3

// SealRows does what req says with each row of the metastore whose id is one of patterns
// or matches one, and tells each what became of it. It goes on after a row that fails,
// but not through an outage. total is told how many rows there are, before the first.
// The error is that the rows are not known, that a pattern is for none of them, or that
// the work was given up.
func SealRows(ctx context.Context, s *session.Session, req resolver.SealRequest, patterns []string, total func(int), each func(SealedRow)) error {
	by := ""
	if req.Action == resolver.ActionRotate {
		by = req.KMS
	}
	all, err := s.Pool.SealRows(ctx, req.Action, by)
	if err != nil {
		return err
	}
	ids, err := chosen(all, patterns, req.Action)
	if err != nil {
		return err
	}
	total(len(ids))
	outage := 0
	for i, id := range ids {
		one := req
		one.ID, one.Row = id, true
		row := SealedRow{ID: id}
		done, _, err := s.Pool.Seal(ctx, &one, nil)
		if row.Err = err; err == nil {
			row.SealAnswer = *done
		}
		each(row)
		if kind := conn.KindOf(err); err == nil || kind != conn.Unreachable && kind != conn.Timeout {
			outage = 0
			continue
		}
		if outage++; outage == maxOutage && i+1 < len(ids) {
			e := conn.Errorf(conn.Unreachable, "", "%d rows in a row failed so, and %d more were not tried", outage, len(ids)-i-1)
			e.Hint = "run the command again when it is back: rows that are done stay so"
			return e
		}
	}
	return nil
}

// chosen returns the ids that are one of patterns or match one. A text that is an id
// itself stands for nothing else, whatever it may look like.
func chosen(all, patterns []string, action string) ([]string, error) {
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
			return nil, conn.Errorf(conn.Absent, "metastore", "no %s has an id like %q", what, p)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
