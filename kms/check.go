package kms

import (
	"context"
	"crypto/subtle"
	"maps"
	"slices"
	"sync"

	"github.com/connfs/connfs/conn"
)

// calls is a Client whose service has its own names for encrypting and decrypting.
type calls interface {
	calls() (encrypt, decrypt string)
}

// Check tries the credentials and permissions for every KMS of the configuration, all at
// once: it has each one encrypt a random key, and decrypt it again, bound to a context
// that no connection has (conn_id ""). Where encrypting fails, decrypting is not tried. Of the
// connections that may be a KMS, which find looks up, it tries whether they can be one: they
// may have no key to encrypt with, and still serve to read.
func (k *Keyring) Check(ctx context.Context, find Finder) []conn.Check {
	names := slices.Sorted(maps.Keys(k.named))
	results := make([][]conn.Check, len(names)+len(k.listed))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { results[i] = k.check(ctx, name) })
	}
	for i, id := range k.listed {
		wg.Go(func() {
			_, err := k.service(ctx, id, find)
			results[len(names)+i] = []conn.Check{{Name: id, Call: "open", Err: err}}
		})
	}
	wg.Wait()
	var all []conn.Check
	for _, r := range results {
		all = append(all, r...)
	}
	return all
}

// check tries the KMS of that NAME.
func (k *Keyring) check(ctx context.Context, name string) []conn.Check {
	s, err := k.service(ctx, name, nil)
	if err != nil {
		return []conn.Check{{Name: name, Call: "open", Err: err}}
	}
	encrypt, decrypt := "encrypt", "decrypt"
	if c, ok := s.client.(calls); ok {
		encrypt, decrypt = c.calls()
	}
	f := &form{KMSConnID: name, KMSType: s.settings.Type, Mode: envelope}
	bound := f.context("", k.tenant)
	key, extra, err := newDataKey(ctx, s.client, bound)
	defer clear(key)
	if err != nil {
		err = named(s.name, err)
		var only conn.Only
		if conn.KindOf(err) == conn.Denied {
			only = conn.OnlySealing
		}
		return []conn.Check{
			{Name: name, Call: encrypt, Only: only, Err: err},
		}
	}
	checks := []conn.Check{
		{Name: name, Call: encrypt, Only: conn.OnlySealing}, {Name: name, Call: decrypt},
	}
	back, err := s.client.Decrypt(ctx, extra, bound)
	defer clear(back)
	switch {
	case err != nil:
		checks[1].Err = named(s.name, err)
	case subtle.ConstantTimeCompare(key, back) != 1:
		checks[1].Err = named(
			s.name, failed("it decrypts to something else than what it encrypted"),
		)
	}
	return checks
}
