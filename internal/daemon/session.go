// Package daemon puts the front together: it has a child read the configuration,
// builds policy, pool, cache and audit from the front's part, mounts, reloads and
// shuts down. The commands that resolve without a mount use the same parts.
package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/audit"
	"github.com/connfs/connfs/internal/broker"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/settings"
)

// ResolverCommand is the hidden command of this binary that runs the child's role.
const ResolverCommand = "resolver"

// slots is the size of the cache in bytes. It fits the usual limit of 8 MiB on
// locked memory.
const slots = 4 << 20

// configureTimeout bounds the reading of the configuration, commands of airflow.cfg
// included.
const configureTimeout = 30 * time.Second

// Options is what the command line says.
type Options struct {
	ConfigFile     string
	ConfigExplicit bool
	AirflowHome    string
	Mountpoint     string // absolute; only for mount
	NeedMount      bool
	Log            *slog.Logger
}

// Session is a configuration in use.
type Session struct {
	Front settings.Front

	options Options
	env     *environment
	blob    *cache.Region
	cache   *cache.Cache
	key     []byte
	pool    *resolver.Pool
	users   *userTable
	dags    *dagTable
}

// command returns how children are started, as the user that the settings name.
func command(child *settings.Child) resolver.Command {
	c := resolver.Command{Path: "/proc/self/exe", Args: []string{"connfs", ResolverCommand}, Env: childEnvironment()}
	if child != nil {
		c.Credential = &syscall.Credential{Uid: child.UID, Gid: child.GID, Groups: child.Groups}
	}
	return c
}

func (o *Options) request() *resolver.ConfigureRequest {
	return &resolver.ConfigureRequest{
		ConfigFile: o.ConfigFile, ConfigExplicit: o.ConfigExplicit, AirflowHome: o.AirflowHome,
		Mountpoint: o.Mountpoint, NeedMount: o.NeedMount, EUID: os.Geteuid(),
	}
}

// configure has a child read the configuration and returns its two parts.
func configure(ctx context.Context, o *Options, env *environment) (settings.Front, *cache.Region, error) {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	block, err := env.block()
	if err != nil {
		return settings.Front{}, nil, err
	}
	defer block.Close()
	cmd := command(nil)
	var blob *cache.Region
	clear, _, err := resolver.Configure(ctx, &cmd, o.request(), block.Bytes(), func(n int) ([]byte, error) {
		if blob, err = cache.NewRegion(n); err != nil {
			return nil, err
		}
		return blob.Bytes(), nil
	})
	var front settings.Front
	if err == nil {
		err = json.Unmarshal(clear, &front)
	}
	if err != nil {
		if blob != nil {
			blob.Close()
		}
		return settings.Front{}, nil, err
	}
	return front, blob, nil
}

// ShowSettings writes the effective settings to w.
func ShowSettings(ctx context.Context, o Options, w io.Writer, secrets, asJSON bool) error {
	env, err := loadEnvironment()
	if err != nil {
		return err
	}
	block, err := env.block()
	if err != nil {
		return err
	}
	defer block.Close()
	req := o.request()
	req.Show, req.ShowSecrets = "text", secrets
	if asJSON {
		req.Show = "json"
	}
	cmd := command(nil)
	_, text, err := resolver.Configure(ctx, &cmd, req, block.Bytes(), func(n int) ([]byte, error) { return make([]byte, n), nil })
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// NewSession reads the configuration and starts the resolver.
func NewSession(ctx context.Context, o Options) (*Session, error) {
	env, err := loadEnvironment()
	if err != nil {
		return nil, err
	}
	s := &Session{options: o, env: env, key: make([]byte, 32)}
	rand.Read(s.key)
	if s.Front, s.blob, err = configure(ctx, &o, env); err != nil {
		return nil, err
	}
	if o.NeedMount {
		// The other commands are asked often; "connfs check" lists what is odd.
		for _, w := range s.Front.Warnings {
			o.Log.Warn(w)
		}
	}
	if s.cache, err = cache.New(slots); err != nil {
		return nil, err
	}
	if err := s.checkLocked(); err != nil {
		return nil, err
	}
	quiet := o.Log
	if !o.NeedMount {
		quiet = slog.New(slog.DiscardHandler)
	}
	s.users, s.dags = newUserTable(quiet), newDAGTable(quiet)
	if s.pool, err = s.newPool(ctx, &s.Front, s.blob); err != nil {
		return nil, err
	}
	if s.Front.DAGs != nil {
		// A metastore that is down must not keep what else is granted from being
		// served; it is asked again soon.
		if err := s.firstDAGs(ctx); err != nil {
			o.Log.Warn("no user is known from serialized DAGs yet", "error", err)
		}
	}
	s.users.refresh(ctx, s.names())
	return s, nil
}

// checkLocked refuses to go on with secrets in memory that can be swapped out,
// unless the configuration allows it.
func (s *Session) checkLocked() error {
	err := errors.Join(s.cache.LockError(), s.blob.LockError(), s.env.lockError())
	if err == nil {
		return nil
	}
	var limit syscall.Rlimit
	syscall.Getrlimit(8 /* RLIMIT_MEMLOCK */, &limit)
	reason := fmt.Sprintf("%d KiB of memory for secrets cannot be locked (limit: %d KiB)", slots>>10, limit.Cur>>10)
	if s.Front.MemoryLock == "try" {
		s.options.Log.Warn(reason + ": plaintext may be swapped out")
		return nil
	}
	return &conn.Error{
		Kind: conn.Failed, Reason: reason, Err: err,
		Hint: `raise it with "ulimit -l" or LimitMEMLOCK=, or set memory_lock = "try"`,
	}
}

func (s *Session) newPool(ctx context.Context, front *settings.Front, blob *cache.Region) (*resolver.Pool, error) {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	return resolver.NewPool(ctx, resolver.Config{
		Command: command(front.Child), Memory: memory{s.cache}, Key: s.key, Blob: blob.Bytes(),
		Epoch: front.Epoch, Timeout: front.Timeout, Log: s.options.Log,
	})
}

// memory is the cache as the pool needs it.
type memory struct{ *cache.Cache }

func (m memory) Reserve(n int) (resolver.Slot, error) {
	v, err := m.Cache.Reserve(n)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// fetcher is the pool as the broker needs it.
type fetcher struct {
	pool *resolver.Pool
	log  *slog.Logger
}

func (f fetcher) Fetch(ctx context.Context, id string) (*cache.Value, string, error) {
	slot, source, err := f.pool.Get(ctx, id, conn.FormatJSON)
	if err != nil {
		return nil, "", err
	}
	return slot.(*cache.Value), source, nil
}

func (f fetcher) List(ctx context.Context) ([]string, bool, error) {
	l, err := f.pool.List(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, a := range l.Failed {
		f.log.Warn("not listed", "backend", a.Backend, "error", a.Result, "reason", a.Reason)
	}
	return l.IDs, l.Complete, nil
}

// rules is what the policy is made of, with users as they are known now.
func (s *Session) rules() policy.Config {
	cfg := policy.Config{Rules: s.Front.Rules, Users: s.users.table(), Owner: s.Front.OwnerOnly}
	if d := s.Front.DAGs; d != nil {
		cfg.Facts, cfg.DefaultUser, cfg.Never = s.dags.facts(), d.DefaultUser, d.Never
	}
	return cfg
}

// names are the user names that the rules need.
func (s *Session) names() []string {
	cfg := s.rules()
	return cfg.Names()
}

// Policy compiles the rules with the users as they are known now.
func (s *Session) Policy() *policy.Policy {
	return policy.New(s.rules())
}

// Pool returns the resolver.
func (s *Session) Pool() *resolver.Pool { return s.pool }

// OpenAudit opens the audit log of the settings.
func (s *Session) OpenAudit() (*audit.Log, error) { return openAudit(s.Front.Audit) }

func openAudit(a settings.Audit) (*audit.Log, error) {
	return audit.Open(audit.Config{File: a.File, Required: a.Required, Cgroup: a.Cgroup})
}

// state is the broker's part of the session.
func (s *Session) state(log broker.Auditor) *broker.State {
	return &broker.State{
		Policy: s.Policy(), Fetcher: fetcher{s.pool, s.options.Log},
		TTL: s.Front.TTL, NegativeTTL: s.Front.NegativeTTL, Timeout: s.Front.Timeout,
		Audit: log, AuditMust: s.Front.Audit.Required,
	}
}

// Close ends the children and wipes what is left.
func (s *Session) Close() {
	s.pool.Close()
	s.cache.Close()
	s.blob.Close()
}
