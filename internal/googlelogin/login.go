// Package googlelogin logs in to Google for the clients of its services: credentials to a
// token, which outlives a resolver child, and calls that are made again where that may help.
package googlelogin

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/internal/retry"
)

const (
	// loginTime is how long a login may take, however many callers gave up on it.
	loginTime = 20 * time.Second
	// leastLeft is how long a token must still be good for to be used.
	leastLeft = 30 * time.Second
)

// pauses are the pauses between the attempts of a call. More attempts would be a storm.
var pauses = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond}

// Token is a login: connfs's own, and nothing of a connection.
type Token struct {
	Token    string
	Expiry   time.Time
	Project  string // of the credentials; may be empty
	Quota    string // the project that is billed; may be empty
	Universe string // the domain of Google's services; "googleapis.com" is the public one
	Tag      string // of the [Credentials]
}

func (t *Token) good() bool { return t != nil && time.Until(t.Expiry) > leastLeft }

// onto returns a context whose calls carry the token.
func (t *Token) onto(ctx context.Context) context.Context {
	if t.Token == "" {
		return ctx
	}
	if t.Quota != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-user-project", t.Quota)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.Token)
}

// Login logs in to Google, once for all callers, and again when the token runs out. It is
// safe for concurrent use.
type Login struct {
	credentials Credentials
	anonymous   bool // calls carry no token
	logins      singleflight.Group

	mu    sync.Mutex
	token *Token // nil: nobody has logged in yet
}

// New returns a Login. It reads no file and connects to nothing.
func New(c Credentials) *Login { return &Login{credentials: c} }

// Anonymous returns a Login for a server that takes no token: an emulator on this machine.
func Anonymous() *Login { return &Login{anonymous: true} }

// Call calls f, which makes one call of a gRPC client with the context that it is given: it
// carries the token. Where the status of the call is one of again, f is called up to three
// times, within the deadline of ctx; and once more with a new token where Google does not take
// the old one. The error is that of the last call, a *conn.Error where no token can be had, or
// that of ctx.
func (l *Login) Call(
	ctx context.Context, again []codes.Code, f func(context.Context, *Token) error,
) error {
	renewed := false
	return retry.Do(ctx, func(try int) (time.Duration, error) {
		token, err := l.get(ctx)
		if err != nil {
			return retry.Stop, err
		}
		err = f(token.onto(ctx), token)
		switch code := status.Code(err); {
		case err == nil:
			return 0, nil
		case ctx.Err() != nil:
			return retry.Stop, ctx.Err()
		case code == codes.Unauthenticated && !renewed:
			renewed = true
			l.drop(token)
			return 0, err
		case !slices.Contains(again, code) || try > len(pauses):
			return retry.Stop, err
		}
		return pauses[try-1], err
	})
}

// get returns a token that is good. It returns when ctx ends; the login goes on for the next
// caller.
func (l *Login) get(ctx context.Context) (_ *Token, err error) {
	done := network.Connecting(ctx)
	defer func() { done(err) }()
	if l.anonymous {
		return &Token{}, nil
	}
	if t := l.kept(); t.good() {
		return t, nil
	}
	login := l.logins.DoChan("", func() (any, error) {
		if t := l.kept(); t.good() { // another caller has just logged in
			return t, nil
		}
		return l.logIn()
	})
	select {
	case result := <-login:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Token), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Login) kept() *Token {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

func (l *Login) logIn() (*Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loginTime)
	defer cancel()
	token, err := l.credentials.logIn(ctx)
	if err != nil {
		return nil, err
	}
	if !token.good() {
		return nil, conn.Errorf(conn.Denied, "", "Google gives no token that lasts")
	}
	token.Tag = l.credentials.Tag
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = token
	return token, nil
}

// drop forgets a token that Google does not take, unless there is another one already.
func (l *Login) drop(refused *Token) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == refused {
		l.token = nil
	}
}

// Identity returns the token for the next process; nil: nobody has logged in yet.
func (l *Login) Identity() []byte {
	t := l.kept()
	if !t.good() {
		return nil
	}
	text, _ := json.Marshal(t)
	return text
}

// Adopt takes a predecessor's token, unless it is another login's, or ends sooner than the
// one that is there.
func (l *Login) Adopt(identity []byte) {
	var t Token
	if l.anonymous || json.Unmarshal(identity, &t) != nil || t.Token == "" ||
		t.Tag != l.credentials.Tag {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil || t.Expiry.After(l.token.Expiry) {
		l.token = &t
	}
}
