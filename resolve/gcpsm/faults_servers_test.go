//go:build integration

package gcpsm_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/gcpsm"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// Whatever the network does: an answer within the deadline, of the right kind, and the
// connection again after the network's return.
func TestOverABadNetwork(t *testing.T) {
	const short, long = 700 * time.Millisecond, 30 * time.Second
	for name, tc := range map[string]struct {
		fault servers.TCPFault
		want  string // a kind, or the host
	}{
		"latency": {servers.TCPFault{Latency: 20 * time.Millisecond}, "h"},
		"latency over the deadline": {servers.TCPFault{Latency: 5 * time.Second},
			conn.Timeout.String()},
		"black hole":            {servers.TCPFault{Hole: true}, conn.Timeout.String()},
		"reset":                 {servers.TCPFault{Reset: true}, conn.Unreachable.String()},
		"cut at the first byte": {servers.TCPFault{Cut: 1}, conn.Unreachable.String()},
		"cut within an answer":  {servers.TCPFault{Cut: 60}, conn.Unreachable.String()},
		"drip":                  {servers.TCPFault{Drip: time.Millisecond}, "h"},
		"drip slower than deadlines": {servers.TCPFault{Drip: 300 * time.Millisecond},
			conn.Timeout.String()},
	} {
		// Only what never answers needs the end of its deadline.
		deadline := long
		if tc.want == conn.Timeout.String() {
			deadline = short
		}
		for _, warm := range []bool{true, false} {
			state := ", cold"
			if warm {
				state = ", warm"
			}
			t.Run(name+state, func(t *testing.T) {
				f := servers.StartFakeSecretManager(t)
				putConnections(t, f, mysql("h"))
				proxy := servers.StartTCPFaultProxy(t, f.URL)
				leaks := goleak.IgnoreCurrent()
				kwargs := kwargsFor(t, f, nil)
				kwargs["endpoint"] = proxy.URL
				b, err := backend.Open(&backend.Secrets{Kwargs: resolvetest.Kwargs(t, kwargs)},
					gcpsm.Open)
				if err != nil {
					t.Fatal(err)
				}
				get := func(deadline time.Duration) (string, error) {
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					defer cancel()
					c, err := b.Connection(ctx, "x")
					return resolvetest.HostOf(c), err
				}
				if warm {
					if _, err := get(long); err != nil {
						t.Fatal(err)
					}
				}
				proxy.Inject(tc.fault)
				for range 3 {
					start := time.Now()
					got, err := get(deadline)
					if err != nil {
						got = conn.KindOf(err).String()
					}
					if got != tc.want {
						t.Errorf("%s, want %s (%v)", got, tc.want, err)
					}
					if took := time.Since(start); took > deadline+resolvetest.Patience {
						t.Errorf("%v for a deadline of %v", took, deadline)
					}
				}
				proxy.Inject(servers.TCPFault{})
				if err := resolvetest.Within(resolvetest.Patience,
					func() error { _, err := get(short); return err }); err != nil {
					t.Errorf("after its return: %v", err)
				}
				b.(interface{ Close() error }).Close()
				proxy.Close()
				f.Down()
				goleak.VerifyNone(t, leaks)
			})
		}
	}
}
