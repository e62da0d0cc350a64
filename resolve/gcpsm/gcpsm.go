// Package gcpsm finds connections in Google Cloud's Secret Manager.
package gcpsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/googlelogin"
	"github.com/connfs/connfs/resolve/backend"
)

// source is the source that errors of [Store] name.
const source = "gcp_secret_manager"

// Store is Airflow's CloudSecretManagerBackend: a connection is the newest
// version of the secret PREFIX SEP ID of one project.
//
// It differs from Airflow in that a refusal of Google's is final, where Airflow takes it
// for absent and asks the next backend; see [callError].
type Store struct {
	prefix, sep string
	disabled    bool   // connections_prefix is null
	project     string // empty: the one of the credentials
	multiTeam   bool
	team        string
	endpoint    endpoint
	login       *googlelogin.Login

	mu      sync.Mutex
	channel *channel // nil: none is open
	closed  bool
}

// validName is what Google takes as the name of a secret.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

// validAffix is what prefix and separator may hold.
var validAffix = regexp.MustCompile(`^[A-Za-z0-9_-]*$`)

// castagnoli is the polynomial of Google's checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open is the [backend.Opener] of a [Store]. It takes Airflow's arguments, and endpoint, which is
// connfs's own: HOST:PORT of a private endpoint, or http://HOST:PORT without TLS, on loopback
// only.
func Open(s *backend.Secrets, kw *arguments.Object) (backend.Backend, error) {
	kw.Ignore("variables_prefix", "config_prefix")
	prefix, enabled := kw.Optional("connections_prefix", "airflow-connections")
	g := &Store{
		prefix: prefix, disabled: !enabled,
		sep: kw.Text("sep", "-"), project: kw.Text("project_id", ""),
		multiTeam: s.MultiTeam, team: s.Team,
	}
	// Airflow looks at the separator only where there is a prefix.
	if enabled {
		for name, text := range map[string]string{"connections_prefix": g.prefix, "sep": g.sep} {
			if !validAffix.MatchString(text) {
				kw.Fail(name, "only letters, digits, - and _ may stand in the name of a secret")
			}
		}
	}
	var err error
	if g.endpoint, err = parseEndpoint(kw.Text("endpoint", "")); err != nil {
		kw.Fail("endpoint", "%v", err)
	}
	g.login = newLogin(s, kw)
	return g, nil
}

// endpoint is where the service is.
type endpoint struct {
	address string // HOST:PORT; empty: Google's own
	plain   bool   // without TLS
}

func parseEndpoint(text string) (endpoint, error) {
	address, plain := strings.CutPrefix(text, "http://")
	if text == "" {
		return endpoint{}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || strings.ContainsAny(address, "/@?# ") {
		return endpoint{}, errors.New("expected HOST:PORT or, on loopback, http://HOST:PORT")
	}
	if ip := net.ParseIP(host); plain && (ip == nil || !ip.IsLoopback()) {
		return endpoint{}, errors.New("without TLS only a loopback address will do")
	}
	return endpoint{address, plain}, nil
}

// Connection implements [backend.Backend].
func (g *Store) Connection(ctx context.Context, id string) (*conn.Connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError(source, err)
	}
	names, err := g.names(id)
	if err != nil {
		return nil, err
	}
	var value []byte
	for _, name := range names {
		if value, err = g.access(ctx, name); conn.KindOf(err) != conn.Absent {
			break
		}
	}
	switch {
	case err != nil:
		return nil, err
	case len(value) == 0:
		return nil, conn.Errorf(conn.Absent, source, "the secret is empty")
	case !utf8.Valid(value):
		return nil, conn.Errorf(conn.Invalid, source, "the secret is not UTF-8")
	}
	c, err := conn.Parse(string(value))
	if err != nil {
		return nil, backend.Invalid(source, err)
	}
	return c, nil
}

// names returns the secrets that hold a connection, the one that counts first. An id
// that cannot be part of a name is not sent: Google would call it an invalid argument.
func (g *Store) names(id string) ([]string, error) {
	absent := func(reason string) ([]string, error) {
		return nil, conn.Errorf(conn.Absent, source, "%s", reason)
	}
	switch {
	case g.disabled:
		return absent("connections_prefix is null: no connection is looked up here")
	case id == "" || !validName.MatchString(g.before()+id):
		return absent(
			"the name of a secret can hold only letters, digits, - and _, and 255 of them")
	case g.multiTeam && strings.Contains(id, "--"):
		return absent("with multi_team, an id with -- would name the secret of a team")
	case g.multiTeam && g.team != "" && validName.MatchString(g.beforeTeam()+id):
		return []string{g.beforeTeam() + id, g.before() + id}, nil
	}
	return []string{g.before() + id}, nil
}

// before is what stands before an id in the name of its secret.
func (g *Store) before() string { return g.prefix + g.sep }

// beforeTeam is the same for a connection of the team.
func (g *Store) beforeTeam() string { return g.before() + g.team + "--" }

// access returns the newest version of a secret.
func (g *Store) access(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := g.call(ctx, func(ctx context.Context, c *channel, project string) error {
		answer, err := c.client.AccessSecretVersion(ctx,
			&secretmanagerpb.AccessSecretVersionRequest{
				Name: "projects/" + project + "/secrets/" + name + "/versions/latest",
			})
		if err != nil {
			return err
		}
		payload := answer.GetPayload()
		value = payload.GetData()
		if payload != nil && payload.DataCrc32C != nil &&
			*payload.DataCrc32C != int64(crc32.Checksum(value, castagnoli)) {
			return status.Error(codes.Unavailable, "checksum")
		}
		// The project is its number there.
		if parts := strings.Split(answer.GetName(), "/"); len(parts) != 6 || parts[3] != name {
			return conn.Errorf(conn.Absent, source, "the service answered with another secret")
		}
		return nil
	})
	return value, err
}

// List implements [backend.Lister]: the names of the project's secrets. No version is read, so
// that a secret without any is listed too.
func (g *Store) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, backend.ContextError(source, err)
	}
	if g.disabled {
		return nil, nil
	}
	var ids []string
	err := g.call(ctx, func(ctx context.Context, c *channel, project string) error {
		ids = nil
		seen := make(map[string]bool)
		all := c.client.ListSecrets(ctx, g.listRequest(project))
		for {
			secret, err := all.Next()
			if errors.Is(err, iterator.Done) {
				backend.CountCall(ctx)
				return nil
			}
			if err != nil {
				return err
			}
			name := secret.GetName()[strings.LastIndexByte(secret.GetName(), '/')+1:]
			if id, ok := g.id(name); ok && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	})
	return ids, err
}

// pageSize is how many secrets are asked for at once; Google's limit is 25,000.
const pageSize = 25_000

func (g *Store) listRequest(project string) *secretmanagerpb.ListSecretsRequest {
	r := &secretmanagerpb.ListSecretsRequest{Parent: "projects/" + project, PageSize: pageSize}
	if g.before() != "" {
		r.Filter = "name:" + g.before() // contains; what only does so is left out later
	}
	return r
}

// id returns the id whose connection the secret of that name holds.
func (g *Store) id(name string) (string, bool) {
	if g.multiTeam && g.team != "" {
		if id, ok := strings.CutPrefix(name, g.beforeTeam()); ok && id != "" &&
			!strings.Contains(id, "--") {
			return id, true
		}
	}
	id, ok := strings.CutPrefix(name, g.before())
	return id, ok && id != "" && !(g.multiTeam && strings.Contains(id, "--"))
}

// Warm implements [backend.Warmer].
func (g *Store) Warm(ctx context.Context) error {
	if g.disabled {
		return nil
	}
	return g.call(ctx,
		func(ctx context.Context, c *channel, _ string) error { return c.connect(ctx) })
}

// Check implements [backend.Checker]. What is accessed is a secret that nobody has: Google says
// that it is not there to whoever may read it.
func (g *Store) Check(ctx context.Context) []conn.Check {
	if g.disabled {
		return nil
	}
	_, access := g.access(ctx, g.before()+"connfs_check_of_no_connection")
	if conn.KindOf(access) == conn.Absent {
		access = nil
	}
	list := g.call(ctx, func(ctx context.Context, c *channel, project string) error {
		r := g.listRequest(project)
		r.PageSize = 1
		_, err := c.client.ListSecrets(ctx, r).Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		return err
	})
	return []conn.Check{{Call: "secretmanager.versions.access", Err: access},
		{Call: "secretmanager.secrets.list", Err: list, Only: conn.OnlyListing}}
}

// Identity implements [backend.Successor].
func (g *Store) Identity() []byte { return g.login.Identity() }

// Adopt implements [backend.Successor].
func (g *Store) Adopt(identity []byte) { g.login.Adopt(identity) }

// call makes a call with a login. It is made again where the service was unavailable for a
// moment, and where Google does not take the token.
func (g *Store) call(
	ctx context.Context, f func(ctx context.Context, c *channel, project string) error,
) error {
	again := []codes.Code{codes.Unavailable}
	call := func(ctx context.Context, token *googlelogin.Token) error {
		return g.callOnce(ctx, token, f)
	}
	return callError(g.login.Call(ctx, again, call))
}

// callOnce makes a call with a token, which ctx carries.
func (g *Store) callOnce(
	ctx context.Context, token *googlelogin.Token,
	f func(ctx context.Context, c *channel, project string) error,
) error {
	project := cmp.Or(g.project, token.Project)
	// It becomes part of a path.
	if project == "" || url.PathEscape(project) != project || project == "." || project == ".." {
		return &conn.Error{
			Kind: conn.Denied, Source: source, Reason: "the credentials name no project",
			Hint: "give project_id in backend_kwargs",
		}
	}
	c, err := g.acquire(token.Universe)
	if err != nil {
		return err
	}
	if err = c.connect(ctx); err == nil {
		err = f(ctx, c, project)
	}
	g.release(c, status.Code(err) == codes.DeadlineExceeded)
	return err
}

// kinds is what Google's codes mean; every other code is Unreachable.
var kinds = map[codes.Code]conn.Error{
	codes.NotFound: {Kind: conn.Absent,
		Reason: "there is no such secret, or it has no version"},
	// Names are looked at before they are sent, so it is not the connection's.
	codes.InvalidArgument: {Kind: conn.Unreachable,
		Reason: "Google takes no such name of a project, or of a secret in it",
		Hint:   "look at project_id in backend_kwargs"},
	codes.PermissionDenied: {Kind: conn.Denied, Reason: "Google does not let connfs read it",
		Hint: "grant roles/secretmanager.secretAccessor, and secretmanager.secrets.list for " +
			"listing; is the API enabled in this project?"},
	codes.Unauthenticated: {Kind: conn.Denied, Reason: "Google does not accept the credentials"},
	// Airflow raises here, and takes no older version either.
	codes.FailedPrecondition: {Kind: conn.Invalid,
		Reason: "the newest version of the secret is disabled or destroyed"},
	codes.DeadlineExceeded: {Kind: conn.Timeout, Reason: "no answer within the deadline"},
	codes.Canceled: {Kind: conn.Unreachable,
		Reason: "the connection to Google was closed"},
	codes.ResourceExhausted: {Kind: conn.Unreachable, Reason: "Google's quota is used up"},
	codes.Unavailable: {Kind: conn.Unreachable,
		Reason: "the service is not available, or the connection to it broke"},
	codes.Unimplemented: {Kind: conn.Unreachable,
		Reason: "what answers there is not Secret Manager"},
}

// callError returns what an error of Google's client is to connfs. Its text may hold
// what the service says, and is not printed.
func callError(err error) error {
	var ce *conn.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ce):
		named := *ce
		named.Source = source
		return &named
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return backend.ContextError(source, err)
	}
	code := status.Code(err)
	e, ok := kinds[code]
	if !ok {
		e = conn.Error{Kind: conn.Unreachable, Reason: fmt.Sprintf("the service failed (%s)", code)}
	}
	e.Source, e.Err = source, err
	return &e
}
