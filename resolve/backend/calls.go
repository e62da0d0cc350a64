package backend

import (
	"context"
	"sync/atomic"
)

// callsKey is the key of a context's counter.
type callsKey struct{}

// WithCalls returns a context in which [CountCall] counts in n.
func WithCalls(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, callsKey{}, n)
}

// CountCall notes one answered call of a List that is paid for or limited in rate, such as one
// page of a cloud's API. The more calls a listing takes, the less often connfs asks for it.
func CountCall(ctx context.Context) {
	if n, ok := ctx.Value(callsKey{}).(*atomic.Int64); ok {
		n.Add(1)
	}
}
