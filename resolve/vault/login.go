package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/internal/retry"
	"github.com/connfs/connfs/resolve/backend"
)

const (
	// flightTime bounds a login that nobody's deadline bounds any more.
	flightTime = 10 * time.Second
	// settled is how old a token must be before one that Vault still accepts is
	// replaced because it may not read a path: the policies of its role may have
	// changed since the login.
	settled = time.Minute
)

// refusedPause is how long no login is tried after refused ones: Vault locks users out who fail
// often.
var refusedPause = retry.Backoff{First: time.Second, Longest: 16 * time.Second}

// session is a token and what is known of its lease. It does not change.
type session struct {
	Token string
	// Issued is when it came into use here.
	Issued time.Time
	// Expires is when Vault forgets it; zero: not known, or never.
	Expires time.Time
	// Renew is when it should be renewed; zero: not at all.
	Renew time.Time
	// Known says that a token that was given, not issued, has been looked up.
	Known bool
}

// valid reports whether the token can be used.
func (s *session) valid(now time.Time) bool {
	return s != nil && (s.Expires.IsZero() || now.Before(s.Expires))
}

// leased returns the session with a lease that begins now.
func (s session) leased(now time.Time, seconds int64, renewable bool) *session {
	lease := time.Duration(seconds) * time.Second
	s.Expires, s.Renew = time.Time{}, time.Time{}
	if lease > 0 {
		s.Expires = now.Add(lease)
		if renewable {
			s.Renew = now.Add(lease * 2 / 3)
		}
	}
	return &s
}

// login has the current token. All readers that need a new one wait for the same
// login.
type login struct {
	api      *client
	auth     auth
	settings [sha256.Size]byte // whose token it is

	mu       sync.Mutex
	current  *session
	dead     string      // a token that Vault no longer accepts
	flight   *flight     // the login under way
	renewing bool        // somebody renews the current token
	useless  time.Time   // when a new token last did not help
	refusals int         // refused logins in a row
	refused  *conn.Error // the last one
	until    time.Time   // when the next login may be tried
}

// flight is a login that any number of readers wait for.
type flight struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
	session *session
	err     error
}

// newLogin reads the arguments of the login. kwargs is their text.
func newLogin(kwargs string, a *client, kw *arguments.Object) *login {
	l := &login{api: a, auth: newAuth(kw)}
	h := sha256.New()
	for _, text := range []string{kwargs, os.Getenv("VAULT_ADDR"), os.Getenv("VAULT_TOKEN")} {
		h.Write([]byte(text))
		h.Write([]byte{0})
	}
	h.Sum(l.settings[:0])
	return l
}

// session returns a session with a valid token. Where it is time, this caller renews it.
func (l *login) session(ctx context.Context) (_ *session, err error) {
	done := network.Connecting(ctx)
	defer func() { done(err) }()
	l.mu.Lock()
	now := time.Now()
	s := l.current
	if !s.valid(now) {
		l.mu.Unlock()
		return l.logIn(ctx, nil)
	}
	due := !s.Renew.IsZero() && now.After(s.Renew) && !l.renewing
	l.renewing = l.renewing || due
	l.mu.Unlock()
	if due {
		return l.renew(ctx, s), nil
	}
	return s, nil
}

// renew asks Vault for a longer lease. Whatever comes of it, there is a token to go on
// with.
func (l *login) renew(ctx context.Context, s *session) *session {
	var answer authAnswer
	err := l.api.put(ctx, s.Token, "auth/token/renew-self", struct{}{}, &answer)
	now := time.Now()
	next := *s
	switch {
	case err == nil && answer.Auth != nil:
		next = *s.leased(now, answer.Auth.LeaseDuration, answer.Auth.Renewable)
		// Vault grants no more than the token's longest life.
		if left := s.Expires.Sub(now); next.Expires.Sub(now) <= left+time.Second {
			next.Renew = time.Time{}
		}
	case isStatus(err, 400), isStatus(err, 403):
		next.Renew = time.Time{}
	default:
		next.Renew = now.Add(max(time.Second, s.Expires.Sub(now)/3))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewing = false
	if l.current == s {
		l.current = &next
	}
	return &next
}

// again returns a new session where Vault refused a call under the given one and a new
// login may help; nil where it cannot.
func (l *login) again(ctx context.Context, refused *session) (*session, error) {
	if !l.auth.calls() && l.auth.tokenPath == "" {
		return nil, nil
	}
	s, err := l.logIn(ctx, refused)
	if err == nil && s.Token == refused.Token {
		return nil, nil
	}
	return s, err
}

// newTokenUseless notes that a call was refused even under a new token.
func (l *login) newTokenUseless(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.useless = time.Now()
}

// logIn returns the session of a login, which it shares with everybody who waits for one.
// refused is the session under which Vault refused a call; nil without such a call.
func (l *login) logIn(ctx context.Context, refused *session) (*session, error) {
	l.mu.Lock()
	now := time.Now()
	if l.current.valid(now) && (refused == nil || l.current.Token != refused.Token) {
		defer l.mu.Unlock()
		return l.current, nil
	}
	if now.Before(l.until) {
		defer l.mu.Unlock()
		return nil, l.refused
	}
	f := l.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		// It goes on for the others when the first one gives up, and ends with the last.
		var shared context.Context
		shared, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), flightTime)
		l.flight = f
		go l.fly(shared, f, refused)
	}
	f.waiters++
	l.mu.Unlock()
	select {
	case <-f.done:
		return f.session, f.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if l.flight == f {
			l.flight = nil
		}
	}
	return nil, backend.ContextError("", ctx.Err())
}

// fly logs in for everybody who waits.
func (l *login) fly(ctx context.Context, f *flight, refused *session) {
	defer f.cancel()
	f.session, f.err = l.replace(ctx, refused)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flight == f {
		l.flight = nil
		l.settle(f, refused)
	}
	close(f.done)
}

// settle takes over what came of a login; the lock is held.
func (l *login) settle(f *flight, refused *session) {
	var e *conn.Error
	switch {
	case f.err == nil:
		if refused != nil && refused.Token != f.session.Token {
			l.dead = refused.Token
		}
		l.current, l.renewing = f.session, false
		l.refusals, l.refused, l.until = 0, nil, time.Time{}
	case errors.As(f.err, &e) && e.Kind == conn.Denied:
		l.refused = e
		l.refusals++
		l.until = time.Now().Add(refusedPause.After(l.refusals))
	}
}

// replace returns a new session, or the refused one where a login would not help.
func (l *login) replace(ctx context.Context, refused *session) (*session, error) {
	if refused != nil && l.auth.calls() {
		err := l.api.get(ctx, refused.Token, "auth/token/lookup-self", nil, nil)
		l.mu.Lock()
		useless := time.Since(l.useless) < settled
		l.mu.Unlock()
		accepted := err == nil
		age := time.Since(refused.Issued)
		if accepted && (useless || age < settled) || useless && age < refusedPause.First {
			return refused, nil
		}
	}
	return l.auth.session(ctx, l.api)
}

// authAnswer is what Vault answers to logins and renewals.
type authAnswer struct {
	Auth *struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"` // seconds; 0: no end
		Renewable     bool   `json:"renewable"`
	} `json:"auth"`
}

// warm logs in. Where that takes no call, it makes one, which opens the connection, and
// tells the lease of a token that was given.
func (l *login) warm(ctx context.Context) error {
	l.mu.Lock()
	had := l.current.valid(time.Now())
	l.mu.Unlock()
	s, err := l.session(ctx)
	if err != nil || !had && l.auth.calls() {
		return err
	}
	return l.lookUp(ctx, s)
}

// lookUp asks Vault about the token. That it may not is no failure.
func (l *login) lookUp(ctx context.Context, s *session) error {
	var answer struct {
		Data struct {
			TTL       int64 `json:"ttl"` // seconds left; 0: no end
			Renewable bool  `json:"renewable"`
		} `json:"data"`
	}
	err := l.api.get(ctx, s.Token, "auth/token/lookup-self", nil, &answer)
	if isStatus(err, 403) {
		return nil
	}
	if err != nil || l.auth.calls() || s.Known {
		return err
	}
	// A token in a file is renewed by whoever writes the file.
	next := *s.leased(time.Now(), answer.Data.TTL, answer.Data.Renewable && l.auth.tokenPath == "")
	next.Known = true
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == s {
		l.current = &next
	}
	return nil
}

// identity is what one child tells the next: connfs's own token, its lease, and how
// logins went. It holds nothing of a connection.
type identity struct {
	Settings []byte // the digest of the settings that the token belongs to
	Session  *session
	Useless  time.Time
	Refusals int
	Refused  string // the reason of the last refused login
	Hint     string
	Until    time.Time
	Mounts   map[string]time.Time // what is known of the store's mounts
}

// identity returns an identity as JSON; nil where nobody has logged in yet. mounts goes along.
func (l *login) identity(mounts map[string]time.Time) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil && l.refused == nil {
		return nil
	}
	i := identity{Settings: l.settings[:], Session: l.current, Useless: l.useless,
		Refusals: l.refusals, Until: l.until, Mounts: mounts}
	if l.refused != nil {
		i.Refused, i.Hint = l.refused.Reason, l.refused.Hint
	}
	text, _ := json.Marshal(i)
	return text
}

// adopt takes a predecessor's token where it is newer than this one's own, and not one
// that Vault has refused since. It returns the mounts that came along.
func (l *login) adopt(text []byte) map[string]time.Time {
	var i identity
	if json.Unmarshal(text, &i) != nil || !bytes.Equal(i.Settings, l.settings[:]) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := i.Session; s.valid(time.Now()) && s.Token != l.dead &&
		(l.current == nil || s.newer(l.current)) {
		l.current = s
	}
	if i.Useless.After(l.useless) {
		l.useless = i.Useless
	}
	if i.Refused != "" && l.refused == nil && l.current == nil {
		l.refused = &conn.Error{Kind: conn.Denied, Reason: i.Refused, Hint: i.Hint}
		// Whatever the predecessor's clock said, no login waits longer than this.
		l.refusals, l.until = i.Refusals, i.Until
		if latest := time.Now().Add(refusedPause.Longest); l.until.After(latest) {
			l.until = latest
		}
	}
	return i.Mounts
}

// newer reports whether s came after t: another login, or a renewal of the same.
func (s *session) newer(t *session) bool {
	return s.Issued.After(t.Issued) || s.Issued.Equal(t.Issued) && s.Expires.After(t.Expires)
}
