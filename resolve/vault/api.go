package vault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/internal/retry"
	"github.com/connfs/connfs/resolve/backend"
)

// backoff is how long to wait before a call is made again.
var backoff = retry.Backoff{First: 100 * time.Millisecond, Longest: 200 * time.Millisecond}

const (
	// attempts is how often a call is made at most. Airflow repeats one three
	// times, and waits longer in between than a reader has time.
	attempts = 3
	// maxBody bounds an answer, in bytes. A connection of 1 MiB fits, whatever is escaped
	// in it.
	maxBody = 8 << 20
	// maxListing bounds the listing of a folder, in bytes.
	maxListing = 32 << 20
)

// client calls Vault's HTTP API.
type client struct {
	http    *http.Client
	address *url.URL
	header  http.Header   // of every call
	timeout time.Duration // of one attempt; the caller's deadline is usually shorter
}

// statusError is an answer that is no success. It never holds anything of the body, in
// which Vault may repeat what it was sent.
type statusError struct {
	status  int
	foreign bool          // the answer is not in Vault's form
	fault   fault         // what Vault says of a path where nothing is
	after   time.Duration // Retry-After
}

func (s *statusError) Error() string { return fmt.Sprintf("HTTP status %d", s.status) }

// meaning is what an HTTP status of Vault's API says.
type meaning struct {
	kind   conn.Kind
	reason string
	again  bool // worth another attempt
}

// meanings are the statuses that Vault documents, and those of proxies before it.
var meanings = map[int]meaning{
	400: {conn.Unreachable, "Vault refused the request as invalid", false},
	401: {conn.Denied, "Vault, or a proxy before it, demands another login", false},
	403: {conn.Denied, "Vault denies it: the policies of the token do not allow this path, or " +
		"the token is not valid", false},
	404: {conn.Absent, "Vault has nothing there", false},
	405: {conn.Unreachable, "Vault does not support this operation there", false},
	412: {conn.Unreachable, "this node of Vault does not have the newest data yet", true},
	429: {conn.Unreachable, "Vault limits the rate of requests", true},
	472: {conn.Unreachable, "this node of Vault is a standby for disaster recovery", true},
	473: {conn.Unreachable, "this node of Vault is a standby", true},
	500: {conn.Unreachable, "Vault failed", true},
	501: {conn.Unreachable, "Vault is not initialized", false},
	502: {conn.Unreachable, "a service behind Vault, or Vault behind a proxy, failed", true},
	503: {conn.Unreachable, "Vault is sealed or down for maintenance", true},
	504: {conn.Unreachable, "a proxy before Vault had no answer in time", true},
}

// meaning returns what the status says of a call.
func (s *statusError) meaning() meaning {
	m, ok := meanings[s.status]
	switch {
	case !ok && s.status >= 500:
		return meaning{conn.Unreachable, fmt.Sprintf("Vault failed with HTTP status %d", s.status),
			true}
	case !ok:
		return meaning{conn.Unreachable, fmt.Sprintf("Vault answered with HTTP status %d",
			s.status), false}
	case s.status == http.StatusNotFound && s.foreign:
		return meaning{conn.Unreachable, "what answers at this address is not Vault", false}
	}
	return m
}

// get reads from a path of the API, without the leading "v1/", and decodes the answer.
func (a *client) get(ctx context.Context, token, path string, query url.Values, into any) error {
	return a.call(ctx, into, func(ctx context.Context) (*http.Request, error) {
		return a.request(ctx, http.MethodGet, token, path, query, nil)
	})
}

// put writes JSON to a path and decodes the answer. An empty token sends none.
func (a *client) put(ctx context.Context, token, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return conn.Errorf(conn.Failed, "", "a request cannot be written as JSON")
	}
	return a.call(ctx, into, func(ctx context.Context) (*http.Request, error) {
		return a.request(ctx, http.MethodPut, token, path, nil, bytes.NewReader(text))
	})
}

// request returns a request to a path of the API.
func (a *client) request(ctx context.Context, method, token, name string, query url.Values,
	body io.Reader,
) (*http.Request, error) {
	u := *a.address
	u.Path, u.RawPath, u.RawQuery = path.Join(u.Path, "/v1/"+name), "", query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	r.Header = a.header.Clone()
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	return r, nil
}

// call makes a call, again where that may help and there is time, and decodes its answer.
// Its error is a *conn.Error.
func (a *client) call(ctx context.Context, into any,
	request func(context.Context) (*http.Request, error),
) error {
	return retry.Do(ctx, func(try int) (time.Duration, error) {
		again, err := a.once(ctx, into, request)
		if !again || try == attempts {
			return retry.Stop, err
		}
		pause := backoff.Jittered(try)
		var s *statusError
		if errors.As(err, &s) {
			pause = max(pause, s.after)
		}
		return pause, err
	})
}

// once makes one attempt, and says whether another one may help.
func (a *client) once(ctx context.Context, into any,
	request func(context.Context) (*http.Request, error),
) (again bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, backend.ContextError("", err)
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	r, err := request(limited)
	if err != nil {
		return cutOff(ctx, err)
	}
	response, err := a.http.Do(r)
	if err != nil {
		return cutOff(ctx, err)
	}
	defer response.Body.Close()
	limit := int64(maxBody)
	if r.URL.Query().Has("list") {
		limit = maxListing
	}
	if response.ContentLength > limit {
		return false, tooLarge(limit)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return cutOff(ctx, err)
	case response.StatusCode/100 != 2:
		return answered(response, text)
	case int64(len(text)) > limit:
		return false, tooLarge(limit)
	case into == nil:
		return false, nil
	case json.Unmarshal(text, into) != nil:
		return false, conn.Errorf(conn.Unreachable, "", "what answers at this address is not Vault")
	}
	return false, nil
}

func tooLarge(limit int64) error {
	return conn.Errorf(conn.TooLarge, "", "Vault's answer is over %d bytes", limit)
}

// answered returns the error of an answer that is no success.
func answered(response *http.Response, text []byte) (again bool, err error) {
	var vaults struct{ Errors, Warnings []string }
	s := &statusError{status: response.StatusCode, foreign: json.Unmarshal(text, &vaults) != nil}
	s.fault = faultOf(vaults.Errors, vaults.Warnings)
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		s.after = time.Duration(seconds) * time.Second
	}
	m := s.meaning()
	return m.again, &conn.Error{Kind: m.kind, Reason: m.reason, Err: s}
}

// cutOff returns the error of a call that got no whole answer.
func cutOff(ctx context.Context, cause error) (again bool, err error) {
	if ctx.Err() != nil {
		return false, backend.ContextError("", ctx.Err())
	}
	if redirected := (*conn.Error)(nil); errors.As(cause, &redirected) {
		return false, redirected
	}
	e := network.Classify(cause)
	e.Err = cause
	return e.Kind == conn.Unreachable, e
}

// close closes idle connections.
func (a *client) close() {
	a.http.CloseIdleConnections()
}

// newClient reads the arguments that say where Vault is and how to reach it. What is
// wrong with them it reports to kw.
func newClient(kw *arguments.Object) *client {
	follow := kw.Boolean("allow_redirects", true)
	a := &client{
		http:    &http.Client{Transport: newTransport(kw), CheckRedirect: redirects(follow)},
		address: serverAddress(kw),
		header:  make(http.Header),
		timeout: timeoutOf(kw),
	}
	if kw.Boolean("request_header", true) {
		a.header.Set("X-Vault-Request", "true")
	}
	if namespace := kw.Text("namespace", ""); namespace != "" {
		a.header.Set("X-Vault-Namespace", namespace)
	}
	// Of Airflow's client, and without effect here: calls are always standard HTTP.
	kw.Boolean("strict_http", false)
	for _, name := range []string{"session", "adapter", "ignore_exceptions"} {
		if kw.Has(name) {
			kw.Fail(name, "connfs cannot honour this argument of the Python client")
		}
	}
	return a
}

// timeoutOf reads the bound of a single attempt, in seconds.
func timeoutOf(kw *arguments.Object) time.Duration {
	const airflows = 30 * time.Second
	seconds, err := arguments.Take(kw, "timeout", "a number of seconds", json.Number("")).Float64()
	if kw.Value("timeout") == nil {
		return airflows
	}
	if err != nil || seconds <= 0 || seconds > 86400 {
		kw.Fail("timeout", "expected a number of seconds")
		return airflows
	}
	return cmp.Or(time.Duration(seconds*float64(time.Second)), airflows)
}
