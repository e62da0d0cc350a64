package kms

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/connfs/connfs/conn"
)

// source is one KMS, whose client is made when it is first needed.
type source struct {
	name     string    // for errors
	settings *Settings // of the configuration; nil: an Airflow connection describes it

	// opening is held by the one caller that makes the client. The others wait, each for as
	// long as its own context lasts: a mutex would hold them for ever where the connections
	// of two KMS are sealed by each other.
	opening *semaphore.Weighted

	mu        sync.Mutex
	service   *service // nil: there is no client yet
	inherited []byte   // a predecessor's login, for the client once it is made
}

// service is a KMS that has its client.
type service struct {
	name     string   // for errors
	settings Settings // of one that a connection describes: Type and Mode
	client   Client
}

func newSource(id string, settings *Settings) *source {
	return &source{name: sourceName(id), settings: settings, opening: semaphore.NewWeighted(1)}
}

// sourceName returns the name that errors show of a KMS.
func sourceName(id string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	name := id
	if strings.Trim(id, plain) != "" || len(id) > 100 {
		name = printable(id)
	}
	return "kms " + name
}

// service returns the KMS of that id, with its client. It must be one that the keyring knows.
func (k *Keyring) service(ctx context.Context, id string, find Finder) (*service, error) {
	s := k.named[id]
	if s == nil {
		k.mu.Lock()
		if s = k.found[id]; s == nil {
			s = newSource(id, nil)
			k.found[id] = s
		}
		k.mu.Unlock()
	}
	opened, err := s.open(ctx, id, find)
	if err != nil {
		return nil, named(s.name, err)
	}
	return opened, nil
}

// open makes the client, if nobody has. One caller tries at a time, and what fails is tried
// again by the next.
func (s *source) open(ctx context.Context, id string, find Finder) (*service, error) {
	if opened := s.opened(); opened != nil {
		return opened, nil
	}
	if s.opening.Acquire(ctx, 1) != nil {
		return nil, interrupted(ctx)
	}
	defer s.opening.Release(1)
	if opened := s.opened(); opened != nil {
		return opened, nil
	}
	opened := &service{name: s.name}
	var err error
	if s.settings != nil {
		opened.settings = *s.settings
		opened.client, err = Lookup(s.settings.Type).open(ctx, *s.settings)
	} else {
		opened.settings, opened.client, err = openConnection(ctx, id, find)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := opened.client.(successor); ok && s.inherited != nil {
		c.Adopt(s.inherited)
	}
	s.service, s.inherited = opened, nil
	return opened, nil
}

// opened returns the KMS with its client; nil: it has none yet.
func (s *source) opened() *service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service
}

// openConnection makes the client of the KMS that an Airflow connection describes.
func openConnection(ctx context.Context, id string, find Finder) (Settings, Client, error) {
	if find == nil {
		return Settings{}, nil, unknownKMS(nil)
	}
	c, err := find(ctx, id)
	if err != nil {
		if conn.KindOf(err) == conn.Absent {
			err = unknownKMS(err)
		}
		return Settings{}, nil, err
	}
	i := slices.IndexFunc(kinds, func(k *Kind) bool {
		return k.connType != "" && c.Type != nil && *c.Type == k.connType
	})
	if i < 0 {
		return Settings{}, nil, failed("the connection has a conn_type that is not one of a KMS")
	}
	client, mode, err := kinds[i].openConnection(ctx, c)
	var classified *conn.Error
	if err != nil && !errors.As(err, &classified) {
		err = failed("the connection of the KMS: %v", err)
	}
	return Settings{Type: kinds[i].Type, Mode: mode}, client, err
}

func unknownKMS(cause error) error {
	return &conn.Error{
		Kind: conn.Failed, Err: cause,
		Reason: "kms_connections lists it, and there is no connection of that id",
		Hint:   "add the connection, or a [kms.NAME] in its place",
	}
}

// Close wipes the keys and closes the clients. The keyring must not be used any more.
func (k *Keyring) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys.wipe()
	var errs []error
	for _, all := range []map[string]*source{k.named, k.found} {
		for _, s := range all {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

func (s *source) close() error {
	// It cannot fail: the context has no end.
	_ = s.opening.Acquire(context.Background(), 1)
	defer s.opening.Release(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		return nil
	}
	c, ok := s.service.client.(io.Closer)
	s.service = nil
	if !ok {
		return nil
	}
	return c.Close()
}
