package kms

import (
	"context"
	"crypto/subtle"
	"maps"
	"slices"
	"sync"

	"github.com/connfs/connfs/conn"
)

// Check is the outcome of one call to a KMS of the configuration.
type Check struct {
	KMS  string // the NAME of [kms.NAME]
	Call string // as the service's own documentation and policies name it: "kms:Decrypt"
	// Sealing says that only seal, reseal and rotate need the call, and reads do not.
	Sealing bool
	// Err is nil, or a *conn.Error that says why the call failed.
	Err error
}

// calls is a Client whose service has its own names for encrypting and decrypting.
type calls interface {
	calls() (encrypt, decrypt string)
}

// Check tries the credentials and permissions for every KMS of the configuration, all at
// once: it has each one encrypt a random key, and decrypt it again, bound to a context
// that no connection has (conn_id ""). Where encrypting fails, decrypting is not tried.
func (k *Keyring) Check(ctx context.Context) []Check {
	names := slices.Sorted(maps.Keys(k.named))
	results := make([][]Check, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { results[i] = k.check(ctx, name) })
	}
	wg.Wait()
	var all []Check
	for _, r := range results {
		all = append(all, r...)
	}
	return all
}

// check tries the KMS of that NAME.
func (k *Keyring) check(ctx context.Context, name string) []Check {
	s, err := k.service(ctx, name, nil)
	if err != nil {
		return []Check{{KMS: name, Call: "open", Err: err}}
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
		return []Check{
			{KMS: name, Call: encrypt, Sealing: conn.KindOf(err) == conn.Denied, Err: err},
		}
	}
	checks := []Check{{KMS: name, Call: encrypt, Sealing: true}, {KMS: name, Call: decrypt}}
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
