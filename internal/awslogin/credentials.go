package awslogin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// early is how long before their end credentials are renewed: a session of STS
	// lasts 15 minutes at least.
	early = 5 * time.Minute
	// again is how long after a failed renewal the next is tried, while the old
	// credentials are still good, and how old credentials are at least before an
	// answer that calls them bad has them renewed.
	again = 10 * time.Second
)

// keeper is an aws.CredentialsProvider that keeps what another one gave, renews it
// before its end, and can hand it over. Concurrent callers log in once.
type keeper struct {
	tag [sha256.Size]byte // of the settings: other ones are no use to a successor

	mu     sync.Mutex
	inner  aws.CredentialsProvider
	creds  aws.Credentials // zero: none
	got    time.Time       // when they came from inner; zero: from a predecessor
	tried  time.Time       // when inner was last asked
	flight *flight         // nil: nobody is asking inner
}

// flight is one question to the inner provider.
type flight struct {
	done  chan struct{}
	creds aws.Credentials
	err   error
}

func (k *keeper) set(inner aws.CredentialsProvider) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inner = inner
}

// Retrieve implements aws.CredentialsProvider.
func (k *keeper) Retrieve(ctx context.Context) (aws.Credentials, error) {
	k.mu.Lock()
	left := lasts(k.creds)
	if left > early || left > 0 && time.Since(k.tried) < again {
		defer k.mu.Unlock()
		return k.creds, nil
	}
	f := k.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		k.flight, k.tried = f, time.Now()
		// What others wait for too must not end with the first caller's patience,
		// but has its deadline: a child does not outlive it by much.
		detached, cancel := context.WithoutCancel(ctx), context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok {
			detached, cancel = context.WithDeadline(detached, deadline)
		}
		go func() {
			defer cancel()
			k.ask(detached, f)
		}()
	}
	k.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return aws.Credentials{}, ctx.Err()
	}
	if f.err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if lasts(k.creds) > 0 {
			return k.creds, nil
		}
		return aws.Credentials{}, &loginError{f.err}
	}
	return f.creds, nil
}

func (k *keeper) ask(ctx context.Context, f *flight) {
	f.creds, f.err = k.inner.Retrieve(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if f.err == nil {
		k.creds, k.got = f.creds, time.Now()
	}
	k.flight = nil
	close(f.done)
}

// lasts returns how long credentials are good: for ever where they have no end, not
// at all where there are none.
func lasts(c aws.Credentials) time.Duration {
	switch {
	case !c.HasKeys():
		return 0
	case !c.CanExpire:
		return 1<<63 - 1
	}
	return time.Until(c.Expires)
}

// renew forgets credentials that AWS calls bad, and reports whether there is a point
// in trying again: where they came from inner a moment ago, the next would be as bad.
func (k *keeper) renew() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.creds.CanExpire || time.Since(k.got) < again {
		return false
	}
	k.creds = aws.Credentials{}
	return true
}

// heirloom is what one process hands to the next.
type heirloom struct {
	Tag         [sha256.Size]byte
	Credentials aws.Credentials
}

// Identity returns the credentials for the next process; nil where there are none, or
// none with an end: those cost nothing to get again.
func (l *Login) Identity() []byte {
	k := l.creds
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.creds.CanExpire || lasts(k.creds) <= early {
		return nil
	}
	b, err := json.Marshal(heirloom{k.tag, k.creds})
	if err != nil {
		return nil
	}
	return b
}

// Adopt takes a predecessor's credentials, unless they are another login's, at their
// end, or older than what is there.
func (l *Login) Adopt(identity []byte) {
	k := l.creds
	var h heirloom
	if json.Unmarshal(identity, &h) != nil || h.Tag != k.tag || !h.Credentials.CanExpire ||
		lasts(h.Credentials) <= early {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if lasts(h.Credentials) > lasts(k.creds) {
		k.creds, k.got = h.Credentials, time.Time{}
	}
}

// tag tells the credentials of one login from another's.
func tag(s Settings) [sha256.Size]byte {
	b, _ := json.Marshal(s)
	return sha256.Sum256(b)
}

// Warm logs in, if that has not been done.
func (l *Login) Warm(ctx context.Context) error {
	return l.Call(ctx, nil, func(ctx context.Context) error {
		if _, err := l.Config(ctx); err != nil {
			return err
		}
		_, err := l.creds.Retrieve(ctx)
		return err
	})
}

// loginError is a failure to get credentials.
type loginError struct{ err error }

func (e *loginError) Error() string { return "logging in: " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }
