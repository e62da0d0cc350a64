// Package session is a configuration in use: it has a child read the configuration, and makes
// policy, cache and the pool of resolver children from it. The daemon serves with a session, and
// the commands that need no mount answer with one.
package session

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/audit"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/settings"
)

// ResolverCommand is the command of this binary that runs as a resolver child. No help shows it.
const ResolverCommand = "resolver"

// WritesArgument tells a resolver child that it may write files.
const WritesArgument = "writes"

// CacheSize is the size of the cache in bytes. It fits the usual limit of 8 MiB on locked memory.
const CacheSize = 4 << 20

// configureTimeout bounds the reading of the configuration, with the commands of airflow.cfg.
const configureTimeout = 30 * time.Second

// Options is what the command line says.
type Options struct {
	ConfigFile     string // absolute path of config.toml
	ConfigExplicit bool   // the user named ConfigFile, so it must exist
	AirflowHome    string // absolute; empty: as the configuration says
	Mountpoint     string // absolute; only for the command mount, and may be empty
	NeedMount      bool   // a configuration without a mountpoint is wrong
	Rewrites       bool   // rows of the metastore are to be rewritten
	Log            *slog.Logger
	Stderr         audit.Stderr // who writes the audit to standard error; nil: the audit itself
}

// Session is a configuration in use.
type Session struct {
	Front   settings.Front // the front's part of the configuration
	Options Options
	Cache   *cache.Cache
	Pool    *resolver.Pool

	env   *environment
	blob  *cache.Region // the children's part of the configuration, which only they can read
	key   []byte        // of the digests of values
	users *userTable    // those that the configuration names
	// dagUsers are those that serialized DAGs name.
	dagUsers *userTable
	dags     *dagTable
}

// command returns how children are started.
func command(confine harden.Confinement, log *slog.Logger) resolver.Command {
	c := resolver.Command{
		Path: "/proc/self/exe", Args: []string{"connfs", ResolverCommand}, Env: childEnvironment(),
		Confine: confine, Log: log,
	}
	if confine.Writes() {
		c.Args = append(c.Args, WritesArgument)
	}
	return c
}

// configureCommand returns how the child is started that reads the configuration. The commands that
// airflow.cfg names run there, and may write what their user may write: Airflow lets them.
func configureCommand(o *Options) resolver.Command {
	return command(harden.Confinement{WriteAnywhere: true}, o.Log)
}

// poolCommand returns how the children are started that answer for this configuration.
func (s *Session) poolCommand() resolver.Command {
	var confine harden.Confinement
	confine.Writable = append(confine.Writable, s.Front.Writable...)
	if s.Options.Rewrites && s.Front.DatabaseDir != "" {
		confine.Writable = append(confine.Writable, s.Front.DatabaseDir)
	}
	c := command(confine, s.Options.Log)
	if child := s.Front.Child; child != nil {
		c.Credential = &syscall.Credential{Uid: child.UID, Gid: child.GID, Groups: child.Groups}
	}
	return c
}

func (o *Options) request() *resolver.ConfigureRequest {
	return &resolver.ConfigureRequest{
		ConfigFile: o.ConfigFile, ConfigExplicit: o.ConfigExplicit, AirflowHome: o.AirflowHome,
		Mountpoint: o.Mountpoint, NeedMount: o.NeedMount, Service: Service(), EUID: os.Geteuid(),
	}
}

// configure has a child read the configuration. It returns the front's part of it, and the
// children's part in locked memory that the caller closes.
func configure(
	ctx context.Context, o *Options, env *environment,
) (settings.Front, *cache.Region, error) {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	block, err := env.block()
	if err != nil {
		return settings.Front{}, nil, err
	}
	defer block.Close()
	cmd := configureCommand(o)
	var blob *cache.Region
	keep := func(n int) ([]byte, error) {
		if blob, err = cache.NewRegion(n); err != nil {
			return nil, err
		}
		return blob.Bytes(), nil
	}
	text, _, err := resolver.Configure(ctx, &cmd, o.request(), block.Bytes(), keep)
	var front settings.Front
	if err == nil {
		err = json.Unmarshal(text, &front)
	}
	if err != nil {
		if blob != nil {
			blob.Close()
		}
		return settings.Front{}, nil, err
	}
	return front, blob, nil
}

// ShowSettings writes every effective setting to w, as text or as lines of JSON. secrets says
// whether passwords and keys are shown too.
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
	cmd := configureCommand(&o)
	keep := func(n int) ([]byte, error) { return make([]byte, n), nil }
	_, text, err := resolver.Configure(ctx, &cmd, req, block.Bytes(), keep)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// New reads the configuration and starts the resolver. Where secrets cannot be locked in memory
// it fails, unless memory_lock allows that. Its errors are of type *[conn.Error] where the
// configuration or the resolver is the cause.
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
		// The other commands would repeat them each time; "connfs check" shows them, too.
		s.logWarnings()
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
	s.users = newUserTable(quiet, "grants name", 0)
	s.dagUsers = newUserTable(quiet, "serialized DAGs name", unknownAgain)
	s.dags = newDAGTable(quiet)
	if s.Pool, err = s.newPool(ctx); err != nil {
		return nil, err
	}
	s.RefreshUsers(ctx)
	if s.Front.DAGs != nil {
		// Other grants hold while the metastore is down, and it is asked again soon.
		if err := s.FirstDAGs(ctx); err != nil {
			o.Log.Warn("no users of serialized DAGs are known yet", "error", err)
		}
		s.firstDAGUsers(ctx)
	}
	return s, nil
}

// checkLocked fails if secrets lie in memory that can be swapped out, unless the configuration
// allows that.
func (s *Session) checkLocked() error {
	err := errors.Join(s.Cache.LockError(), s.blob.LockError(), s.env.lockError())
	if err == nil {
		return nil
	}
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(8 /* RLIMIT_MEMLOCK */, &limit) // every process has this limit
	reason := fmt.Sprintf("%d KiB of memory for secrets cannot be locked (limit: %d KiB)",
		CacheSize>>10, limit.Cur>>10)
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
		Command: s.poolCommand(), Cache: s.Cache, Key: s.key, Blob: s.blob.Bytes(),
		Epoch: s.Front.Epoch, Timeout: s.Front.Timeout, Log: s.Options.Log,
	})
}

// Rules returns what the policy is made of, with the users and DAGs that are known now.
func (s *Session) Rules() policy.Config {
	cfg, _ := s.rules()
	return cfg
}

// rules returns what Rules does, and the DAGs that name too many users.
func (s *Session) rules() (cfg policy.Config, over []string) {
	cfg = policy.Config{
		Rules: s.Front.Rules, Users: s.users.table(), SealedBy: s.Front.SealedBy,
		Owner: s.Front.OwnerOnly,
	}
	if d := s.Front.DAGs; d != nil {
		cfg.Facts, cfg.DefaultUser, cfg.Never = s.dags.facts(), d.DefaultUser, d.Never
		over = cfg.Bound()
		inDAGs := maps.Clone(s.dagUsers.table())
		maps.Copy(inDAGs, cfg.Users)
		cfg.Users = inDAGs
	}
	return cfg, over
}

// DAGsOver returns the ids of the DAGs that grant nothing because all DAGs together name more than
// [policy.MaxUsers] users, and these name the most.
func (s *Session) DAGsOver() []string {
	_, over := s.rules()
	return over
}

// Policy returns the policy with the users and DAGs that are known now.
func (s *Session) Policy() *policy.Policy { return policy.New(s.Rules()) }

// OpenAudit opens the audit log that the settings name. The caller closes it.
func (s *Session) OpenAudit() (*audit.Log, error) {
	a := s.Front.Audit
	return audit.Open(audit.Config{
		File: a.File, Required: a.Required, Cgroup: a.Cgroup, Stderr: s.Options.Stderr,
		Off: s.AuditOff(),
	})
}

// AuditOff reports whether no audit line is written: on a terminal, of a mount that is its user's
// alone, unless the configuration names a file for it. What fails is in the log there anyway.
func (s *Session) AuditOff() bool {
	if s.Front.Others || !s.Front.Audit.Default {
		return false
	}
	_, err := unix.IoctlGetTermios(unix.Stderr, unix.TCGETS)
	return err == nil
}

// Next reads the configuration again and starts its resolver. It returns a new session, which
// shares the cache, the users and the DAGs with s; s itself stays as it is. accept sees the new
// settings before anything is started, and can refuse them.
func (s *Session) Next(
	ctx context.Context, accept func(now *settings.Front) error,
) (*Session, error) {
	front, blob, err := configure(ctx, &s.Options, s.env)
	if err != nil {
		return nil, err
	}
	next := *s
	next.Front, next.blob = front, blob
	if err = accept(&front); err == nil {
		next.logWarnings()
		next.Pool, err = next.newPool(ctx)
	}
	if err != nil {
		blob.Close()
		return nil, err
	}
	return &next, nil
}

func (s *Session) logWarnings() {
	for _, w := range s.Front.Warnings {
		s.Options.Log.Warn(w)
	}
}

// Expire drops what would have been dropped while the machine was suspended.
func (s *Session) Expire() {
	s.Cache.Expire()
	s.Pool.Expire()
}

// Retire lets the requests that are under way end, until ctx ends at the latest. Then it ends the
// children of s and wipes their settings. What s shares with other sessions stays.
func (s *Session) Retire(ctx context.Context) {
	s.Pool.Drain(ctx)
	s.blob.Close()
}

// Close ends the children and wipes everything.
func (s *Session) Close() {
	s.Pool.Close()
	s.Cache.Close()
	s.blob.Close()
}
