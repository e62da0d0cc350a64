package network

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// callerKey and requestKey are the keys of a context.
type (
	callerKey  struct{}
	requestKey struct{}
)

// ForCaller returns a context for what is asked on behalf of a caller, whatever the number
// means to who gave it. Without it the caller is 0.
func ForCaller(ctx context.Context, caller uint32) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// Caller returns on whose behalf ctx asks.
func Caller(ctx context.Context) uint32 {
	caller, _ := ctx.Value(callerKey{}).(uint32)
	return caller
}

// Request tells how far a request to a backend came. A request that failed before it was
// put says something of the backend; one that failed afterwards may say something only of
// what it asked for. It is safe for concurrent use.
type Request struct {
	queued     atomic.Int32 // it waits for a place
	connecting atomic.Int32 // it connects or logs in
	failed     atomic.Bool  // that failed
	dialing    atomic.Bool  // an HTTP client is without a connection
}

// Follow returns a context whose request r is told about. HTTP clients tell by themselves
// when they connect.
func Follow(ctx context.Context) (followed context.Context, r *Request) {
	r = &Request{}
	return httptrace.WithClientTrace(context.WithValue(ctx, requestKey{}, r),
		&httptrace.ClientTrace{
			GetConn: func(string) { r.dialing.Store(true) },
			GotConn: func(httptrace.GotConnInfo) { r.dialing.Store(false) },
		}), r
}

// Queued says that the request of ctx waits for a place among others', until done is called.
func Queued(ctx context.Context) (done func()) {
	r, ok := ctx.Value(requestKey{}).(*Request)
	if !ok {
		return func() {}
	}
	r.queued.Add(1)
	return func() { r.queued.Add(-1) }
}

// Connecting says that the request of ctx connects or logs in, until done is called with what
// came of it.
func Connecting(ctx context.Context) (done func(error)) {
	r, ok := ctx.Value(requestKey{}).(*Request)
	if !ok {
		return func(error) {}
	}
	r.connecting.Add(1)
	return func(err error) {
		r.failed.Store(err != nil)
		r.connecting.Add(-1)
	}
}

// Waits reports whether the request waits for a place among others'.
func (r *Request) Waits() bool { return r.queued.Load() > 0 }

// Unconnected reports whether the request, which failed with err, got no connection, or no
// login.
func (r *Request) Unconnected(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return r.connecting.Load() > 0 || r.failed.Load() || r.dialing.Load() ||
		errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns)
}
