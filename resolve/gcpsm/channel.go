package gcpsm

import (
	"cmp"
	"context"
	"crypto/tls"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
)

// channel is a gRPC channel, which connects when it is first used.
type channel struct {
	channel *grpc.ClientConn
	client  *secretmanager.Client
	calls   int  // under way; of Store.mu
	old     bool // closed with its last call
}

// The channel tries again soon: a service that is back should be found within a second.
var connectParams = grpc.ConnectParams{
	Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5,
		Jitter: 0.2, MaxDelay: 300 * time.Millisecond},
	MinConnectTimeout: 3 * time.Second,
}

// acquire returns the channel for a call, which release ends.
func (g *Store) acquire(universe string) (*channel, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, conn.Errorf(conn.Unreachable, source, "the backend is closed")
	}
	if g.channel == nil {
		c, err := g.endpoint.dial(universe)
		if err != nil {
			return nil, &conn.Error{Kind: conn.Failed, Source: source,
				Reason: "no channel can be made for this endpoint", Err: err}
		}
		g.channel = c
	}
	g.channel.calls++
	return g.channel, nil
}

// release ends a call. After a silence the next call gets a new channel: the connection
// may be to a machine that is no longer there, which nothing but silence tells.
func (g *Store) release(c *channel, silent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.calls--
	if silent && g.channel == c {
		g.channel, c.old = nil, true
	}
	if c.old && c.calls == 0 {
		_ = c.client.Close() // it only read
	}
}

// Close closes the channel. Calls under way end with it.
func (g *Store) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.channel == nil {
		return nil
	}
	c := g.channel
	g.channel = nil
	return c.client.Close()
}

// dial makes a channel, in the universe of the credentials where that is not Google's
// public one.
func (e endpoint) dial(universe string) (*channel, error) {
	address := cmp.Or(e.address, "secretmanager."+cmp.Or(universe, "googleapis.com")+":443")
	transport := credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	if e.plain {
		transport = insecure.NewCredentials()
	}
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(transport), grpc.WithConnectParams(connectParams),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second,
			Timeout: 3 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	client, err := secretmanager.NewClient(context.Background(), option.WithGRPCConn(connection))
	if err != nil {
		_ = connection.Close() // nothing was sent on it
		return nil, err
	}
	// Retries are for call to decide, within the reader's deadline.
	client.CallOptions = &secretmanager.CallOptions{}
	return &channel{channel: connection, client: client}, nil
}

// connect waits until the channel is ready.
func (c *channel) connect(ctx context.Context) (err error) {
	done := network.Connecting(ctx)
	defer func() { done(err) }()
	for {
		c.channel.Connect()
		state := c.channel.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return status.Error(codes.Unavailable, "not connected")
		}
		if !c.channel.WaitForStateChange(ctx, state) {
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}
