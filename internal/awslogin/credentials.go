package awslogin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/singleflight"

	"github.com/connfs/connfs/internal/network"
)

const (
	// early is how long before their end credentials are renewed. A session of STS lasts 15
	// minutes at least.
	early = 5 * time.Minute
	// again is how soon after a failed renewal the next one is tried, while the old
	// credentials are still good. It is also how old credentials must be before they are
	// renewed because AWS calls them bad.
	again = 10 * time.Second
)

// keeper is an aws.CredentialsProvider that keeps the credentials of another one, renews
// them before their end, and can hand them over. Concurrent callers log in once.
type keeper struct {
	tag    [sha256.Size]byte // of the settings, since only the same login may go on with them
	logins singleflight.Group

	mu    sync.Mutex
	inner aws.CredentialsProvider
	creds aws.Credentials // zero: there are none yet
	got   time.Time       // when they came from inner; zero: from a predecessor
	tried time.Time       // when inner was last asked
}

func (k *keeper) set(inner aws.CredentialsProvider) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inner = inner
}

// Retrieve implements aws.CredentialsProvider.
func (k *keeper) Retrieve(ctx context.Context) (_ aws.Credentials, err error) {
	done := network.Connecting(ctx)
	defer func() { done(err) }()
	if creds, ok := k.good(); ok {
		return creds, nil
	}
	login := k.logins.DoChan("", func() (any, error) {
		if creds, ok := k.good(); ok { // another caller has just logged in
			return creds, nil
		}
		return k.logIn(ctx)
	})
	select {
	case result := <-login:
		if result.Err == nil {
			return result.Val.(aws.Credentials), nil
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if lasts(k.creds) > 0 {
			return k.creds, nil
		}
		return aws.Credentials{}, &loginError{result.Err}
	case <-ctx.Done():
		return aws.Credentials{}, ctx.Err()
	}
}

// good returns the credentials, if they need not be renewed now.
func (k *keeper) good() (aws.Credentials, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := lasts(k.creds)
	return k.creds, left > early || left > 0 && time.Since(k.tried) < again
}

// logIn asks the inner provider. Others wait for the answer too, so it goes on when the
// caller gives up, but not beyond the caller's deadline: a child does not live much longer.
func (k *keeper) logIn(ctx context.Context) (aws.Credentials, error) {
	detached, cancel := context.WithoutCancel(ctx), context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		detached, cancel = context.WithDeadline(detached, deadline)
	}
	defer cancel()
	k.mu.Lock()
	k.tried = time.Now()
	inner := k.inner
	k.mu.Unlock()
	creds, err := inner.Retrieve(detached)
	if err != nil {
		return aws.Credentials{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.creds, k.got = creds, time.Now()
	return creds, nil
}

// lasts returns how long credentials are good: for ever if they have no end, and 0 if there
// are none.
func lasts(c aws.Credentials) time.Duration {
	switch {
	case !c.HasKeys():
		return 0
	case !c.CanExpire:
		return 1<<63 - 1
	}
	return time.Until(c.Expires)
}

// renew forgets credentials that AWS calls bad, and reports whether another login may help. It
// would not if they came from inner a moment ago: the next ones would be as bad.
func (k *keeper) renew() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.creds.CanExpire || time.Since(k.got) < again {
		return false
	}
	k.creds = aws.Credentials{}
	return true
}

// savedLogin is what one process hands to the next.
type savedLogin struct {
	Tag         [sha256.Size]byte
	Credentials aws.Credentials
}

// Identity returns the credentials for the next process. It is nil where there are none, and
// for credentials without an end, which cost nothing to get again.
func (l *Login) Identity() []byte {
	k := l.creds
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.creds.CanExpire || lasts(k.creds) <= early {
		return nil
	}
	b, err := json.Marshal(savedLogin{k.tag, k.creds})
	if err != nil {
		return nil
	}
	return b
}

// Adopt takes a predecessor's credentials, unless they are another login's, are about to end,
// or end sooner than those that are there.
func (l *Login) Adopt(identity []byte) {
	k := l.creds
	var saved savedLogin
	if json.Unmarshal(identity, &saved) != nil || saved.Tag != k.tag ||
		!saved.Credentials.CanExpire || lasts(saved.Credentials) <= early {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if lasts(saved.Credentials) > lasts(k.creds) {
		k.creds, k.got = saved.Credentials, time.Time{}
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
