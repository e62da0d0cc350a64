package aws

import (
	"context"
	"net/url"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// service is a store and the client C of its service in AWS.
type service[C any] struct {
	store
	// newClient makes the client; endpoint is nil where AWS's own rules decide.
	newClient func(cfg aws.Config, endpoint *string) *C
	// address returns where the client sends its calls.
	address func(ctx context.Context, c *C) (url.URL, error)

	mu     sync.Mutex
	client *C // nil: not yet
}

// call calls f with the client, again where that may help ([awslogin.Login.Call]).
func (s *service[C]) call(ctx context.Context, kinds map[string]conn.Kind,
	f func(context.Context, *C) error,
) error {
	return s.login.Call(ctx, kinds, func(ctx context.Context) error {
		client, err := s.open(ctx)
		if err != nil {
			return err
		}
		return f(ctx, client)
	})
}

func (s *service[C]) open(ctx context.Context) (*C, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		cfg, err := s.login.Config(ctx)
		if err != nil {
			return nil, err
		}
		s.client = s.newClient(cfg, s.login.Endpoint())
	}
	return s.client, nil
}

// page is one page of a listing.
type page struct {
	names []string
	next  *string // the token of the next page; empty: this is the last
}

// pages returns the names of so many pages at most; 0: of all.
func (s *service[C]) pages(ctx context.Context, most int,
	ask func(ctx context.Context, c *C, token *string) (page, error),
) (names []string, err error) {
	var token *string
	for count := 1; ; count++ {
		var p page
		err := s.call(ctx, nil, func(ctx context.Context, c *C) (err error) {
			p, err = ask(ctx, c, token)
			return err
		})
		if err != nil {
			return nil, err
		}
		backend.CountCall(ctx)
		names = append(names, p.names...)
		if token = p.next; aws.ToString(token) == "" || count == most {
			return names, nil
		}
	}
}

// namesOf returns the names of what a page lists.
func namesOf[T any](list []T, name func(*T) *string) []string {
	names := make([]string, len(list))
	for i := range list {
		names[i] = aws.ToString(name(&list[i]))
	}
	return names
}

// Warm implements [backend.Warmer].
func (s *service[C]) Warm(ctx context.Context) error {
	if s.disabled {
		return nil
	}
	if err := s.login.Warm(ctx); err != nil {
		return err
	}
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	// Where this fails the first look-up will say what is wrong.
	if address, err := s.address(ctx, c); err == nil {
		s.login.Connect(ctx, address)
	}
	return nil
}
