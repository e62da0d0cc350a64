package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/broker"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
)

// fetcher is how the broker asks the resolver.
type fetcher struct {
	pool *resolver.Pool
	log  *slog.Logger
}

// Fetch returns the connection id as the file shows it, and where it comes from.
func (f fetcher) Fetch(
	ctx context.Context, uid uint32, id string,
) (*cache.Value, cache.Origin, error) {
	v, origin, err := f.pool.Get(ctx, uid, id, conn.FormatJSON)
	return v, origin, replaced(err)
}

// replaced returns err as the broker knows it.
func replaced(err error) error {
	if errors.Is(err, resolver.ErrClosed) {
		return fmt.Errorf("%w: %w", broker.ErrReplaced, err)
	}
	return err
}

// List returns what the backends hold, and logs which of them did not answer.
func (f fetcher) List(ctx context.Context) (broker.Listing, error) {
	l, err := f.pool.List(ctx)
	if err != nil {
		return broker.Listing{}, replaced(err)
	}
	for _, a := range l.Failed {
		f.log.Warn("a backend does not list its connections",
			"backend", a.Backend, "error", a.Result, "reason", a.Reason)
	}
	return broker.Listing{
		IDs: l.IDs, Answered: len(l.Failed) == 0, Complete: l.Complete, Calls: l.Calls,
	}, nil
}

// state returns what the broker takes from a session.
func state(s *session.Session, log broker.Auditor) *broker.State {
	return &broker.State{
		Policy: s.Policy(), Fetcher: fetcher{s.Pool, s.Options.Log},
		TTL: s.Front.TTL, NegativeTTL: s.Front.NegativeTTL, Timeout: s.Front.Timeout,
		Audit: log, AuditMust: s.Front.Audit.Required,
	}
}
