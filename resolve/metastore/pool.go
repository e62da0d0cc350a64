package metastore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/resolve/backend"
)

// A resolver child lives for seconds and serves a few reads at a time: few
// connections are enough, and an idle one is not kept for long. The last connection is
// opened only where several callers read at once.
const (
	maxConns    = 5
	mostOfOne   = 4 // for one caller
	maxIdleTime = time.Minute
)

// pool is a database on a server.
type pool struct {
	db   *sql.DB
	gate gate
	// the driver's table; nil for errors that are not the server's
	classify func(tables, error) *conn.Error
	// the server's way of saying that this connection is over
	dead func(error) bool
	// the driver's table for statements that write; nil: see classify
	refused func(error) *conn.Error
}

func newPool(c driver.Connector, classify func(tables, error) *conn.Error,
	dead func(error) bool) *pool {
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(maxIdleTime)
	return &pool{db: db, classify: classify, dead: dead,
		refused: func(error) *conn.Error { return nil }}
}

// read implements database. After a server's restart all idle connections are dead:
// the first failure drops them, and the second try dials.
func (p *pool) read(ctx context.Context, used tables,
	f func(context.Context, *sql.Conn) error) error {
	err := p.try(ctx, f)
	if err != nil && ctx.Err() == nil && p.lost(err) {
		p.dropIdle()
		err = p.try(ctx, f)
	}
	if err == nil {
		return nil
	}
	return p.explain(ctx, used, err)
}

// try calls f inside a read-only transaction.
func (p *pool) try(ctx context.Context, f func(context.Context, *sql.Conn) error) error {
	return p.transaction(ctx, "START TRANSACTION READ ONLY", "ROLLBACK", f)
}

// write implements database. Only what fails before anything was written is tried again.
func (p *pool) write(ctx context.Context, used tables,
	f func(context.Context, *sql.Conn) error) error {
	began := false
	try := func() error {
		return p.transaction(ctx, "START TRANSACTION READ WRITE", "COMMIT",
			func(ctx context.Context, c *sql.Conn) error {
				began = true
				return f(ctx, c)
			})
	}
	err := try()
	if err != nil && !began && ctx.Err() == nil && p.lost(err) {
		p.dropIdle()
		err = try()
	}
	if err == nil {
		return nil
	}
	if ce := p.refused(err); ce != nil {
		ce.Source, ce.Err = "metastore", err
		return ce
	}
	return p.explain(ctx, used, err)
}

// transaction calls f inside a transaction, which the statement end ends if f returns
// nil. A connection on which that does not end cleanly is closed.
func (p *pool) transaction(ctx context.Context, begin, end string,
	f func(context.Context, *sql.Conn) error) error {
	leave, err := p.gate.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c, err := p.begin(ctx, begin)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := f(ctx, c); err != nil {
		if _, rollback := c.ExecContext(ctx, "ROLLBACK"); rollback != nil {
			discard(c)
		}
		return err
	}
	if _, err := c.ExecContext(ctx, end); err != nil {
		discard(c)
		if end == "COMMIT" {
			return err
		}
	}
	return nil
}

// begin returns a connection on which a transaction has begun. Until then nothing was asked
// for, so a failure is one of the server.
func (p *pool) begin(ctx context.Context, begin string) (c *sql.Conn, err error) {
	done := network.Connecting(ctx)
	defer func() { done(err) }()
	if c, err = p.db.Conn(ctx); err != nil {
		return nil, err
	}
	if _, err := c.ExecContext(ctx, begin); err != nil {
		discard(c)
		c.Close()
		return nil, err
	}
	return c, nil
}

// dropIdle closes the connections that nobody uses.
func (p *pool) dropIdle() {
	p.db.SetMaxIdleConns(0)
	p.db.SetMaxIdleConns(maxConns)
}

func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
}

// lost says whether err means that the connection broke, rather than that the server
// answered with a failure.
func (p *pool) lost(err error) bool {
	for _, cause := range []error{driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF,
		net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return p.dead(err)
}

// explain classifies: by the deadline, by the driver's table, by the network's errors.
// It takes no text over from the driver, which may quote the host, the user, or with
// a URL that was taken apart wrongly a piece of the password.
func (p *pool) explain(ctx context.Context, used tables, err error) error {
	var ce *conn.Error
	if errors.As(err, &ce) {
		return ce
	}
	if ctx.Err() != nil {
		return backend.ContextError("metastore", ctx.Err())
	}
	ce = p.classify(used, err)
	if ce == nil {
		ce = network.Classify(err)
	}
	ce.Source = "metastore"
	if ce.Err == nil {
		ce.Err = err
	}
	return ce
}

// Close implements database.
func (p *pool) Close() error { return p.db.Close() }
