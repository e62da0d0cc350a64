package network_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/connfs/connfs/internal/network"
)

func TestWhatGotNoConnectionIsKnown(t *testing.T) {
	var cancel context.CancelFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	// Nobody accepts here: whoever connects waits.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refused := errors.New("refused")
	for _, c := range []struct {
		name string
		ask  func(ctx context.Context) error
		want bool
	}{
		{"no server", get("http://127.0.0.1:1"), true},
		{"no such name", get("http://server.invalid"), true},
		{"a handshake that never ends", get("https://" + silent.Addr().String()), true},
		{"a server that does not answer", get(server.URL), false},
		{"a login that never ends", func(ctx context.Context) error {
			network.Connecting(ctx)
			return context.DeadlineExceeded
		}, true},
		{"a login that failed", func(ctx context.Context) error {
			network.Connecting(ctx)(refused)
			return refused
		}, true},
		{"a login that failed at first", func(ctx context.Context) error {
			network.Connecting(ctx)(refused)
			network.Connecting(ctx)(nil)
			return context.DeadlineExceeded
		}, false},
		{"nothing of the kind", func(ctx context.Context) error { return refused }, false},
	} {
		var ctx context.Context
		if ctx, cancel = context.WithCancel(t.Context()); c.want {
			ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		}
		ctx, request := network.Follow(ctx)
		err := c.ask(ctx)
		if err == nil || request.Unconnected(err) != c.want || request.Waits() {
			t.Errorf("%s: unconnected: %v: %v", c.name, request.Unconnected(err), err)
		}
		cancel()
	}
}

func get(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		_, err = client.Do(r)
		return err
	}
}
