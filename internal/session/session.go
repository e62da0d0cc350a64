// Package session is a configuration in use: it has a child read the configuration, and
// makes policy, pool and cache from the front's part. The daemon serves with it, and the
// commands that resolve without a mount answer with it.
package session

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
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/settings"
)

// ResolverCommand is the hidden command of this binary that runs the child's role.
const ResolverCommand = "resolver"

// CacheSize is the size of the cache in bytes. It fits the usual limit of 8 MiB on
// locked memory.
const CacheSize = 4 << 20

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
	Front   settings.Front
	Options Options
	Cache   *cache.Cache
	Pool    *resolver.Pool

	env   *environment
	blob  *cache.Region
	key   []byte
	users *userTable
	dags  *dagTable
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

// New reads the configuration and starts the resolver.
func New(ctx context.Context, o Options) (*Session, error) {
	env, err := loadEnvironment()
	if err != nil {
		return nil, err
	}
	s := &Session{Options: o, env: env, key: make([]byte, 32)}
	rand.Read(s.key)
	if s.Front, s.blob, err = configure(ctx, &o, env); err != nil {
		return nil, err
	}
	if o.NeedMount {
		// The other commands are asked often; "connfs check" lists what is odd.
		s.warn()
	}
	if s.Cache, err = cache.New(CacheSize); err != nil {
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
	if s.Pool, err = s.newPool(ctx); err != nil {
		return nil, err
	}
	if s.Front.DAGs != nil {
		// A metastore that is down must not keep what else is granted from being
		// served; it is asked again soon.
		if err := s.FirstDAGs(ctx); err != nil {
			o.Log.Warn("no user is known from serialized DAGs yet", "error", err)
		}
	}
	s.RefreshUsers(ctx)
	return s, nil
}

// checkLocked refuses to go on with secrets in memory that can be swapped out,
// unless the configuration allows it.
func (s *Session) checkLocked() error {
	err := errors.Join(s.Cache.LockError(), s.blob.LockError(), s.env.lockError())
	if err == nil {
		return nil
	}
	var limit syscall.Rlimit
	syscall.Getrlimit(8 /* RLIMIT_MEMLOCK */, &limit)
	reason := fmt.Sprintf("%d KiB of memory for secrets cannot be locked (limit: %d KiB)", CacheSize>>10, limit.Cur>>10)
	if s.Front.MemoryLock == "try" {
		s.Options.Log.Warn(reason + ": plaintext may be swapped out")
		return nil
	}
	return &conn.Error{
		Kind: conn.Failed, Reason: reason, Err: err,
		Hint: `raise it with "ulimit -l" or LimitMEMLOCK=, or set memory_lock = "try"`,
	}
}

func (s *Session) newPool(ctx context.Context) (*resolver.Pool, error) {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	return resolver.NewPool(ctx, resolver.Config{
		Command: command(s.Front.Child), Cache: s.Cache, Key: s.key, Blob: s.blob.Bytes(),
		Epoch: s.Front.Epoch, Timeout: s.Front.Timeout, Log: s.Options.Log,
	})
}

// Rules is what the policy is made of, with users as they are known now.
func (s *Session) Rules() policy.Config {
	cfg := policy.Config{Rules: s.Front.Rules, Users: s.users.table(), Owner: s.Front.OwnerOnly}
	if d := s.Front.DAGs; d != nil {
		cfg.Facts, cfg.DefaultUser, cfg.Never = s.dags.facts(), d.DefaultUser, d.Never
	}
	return cfg
}

// RefreshUsers looks up the users of the rules, and reports whether any uid changed.
func (s *Session) RefreshUsers(ctx context.Context) bool {
	cfg := s.Rules()
	return s.users.refresh(ctx, cfg.Names())
}

// Policy compiles the rules with the users as they are known now.
func (s *Session) Policy() *policy.Policy {
	return policy.New(s.Rules())
}

// OpenAudit opens the audit log of the settings.
func (s *Session) OpenAudit() (*audit.Log, error) {
	a := s.Front.Audit
	return audit.Open(audit.Config{File: a.File, Required: a.Required, Cgroup: a.Cgroup})
}

// Next reads the configuration anew and starts its resolver. The session that it returns
// shares the cache, the users and the DAGs with s, which stays as it is. accept sees the new
// settings before anything is started, and can refuse them.
func (s *Session) Next(ctx context.Context, accept func(now *settings.Front) error) (*Session, error) {
	front, blob, err := configure(ctx, &s.Options, s.env)
	if err != nil {
		return nil, err
	}
	next := *s
	next.Front, next.blob = front, blob
	if err = accept(&front); err == nil {
		next.warn()
		next.Pool, err = next.newPool(ctx)
	}
	if err != nil {
		blob.Close()
		return nil, err
	}
	return &next, nil
}

func (s *Session) warn() {
	for _, w := range s.Front.Warnings {
		s.Options.Log.Warn(w)
	}
}

// Retire ends the children and wipes their settings, but keeps what s shares with the
// sessions before and after it.
func (s *Session) Retire() {
	s.Pool.Close()
	s.blob.Close()
}

// Close ends the children and wipes what is left.
func (s *Session) Close() {
	s.Pool.Close()
	s.Cache.Close()
	s.blob.Close()
}
