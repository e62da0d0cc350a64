package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/resolver/child"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/stderr"
)

var mountCommand = command{
	name: "mount", args: "[MOUNTPOINT]", summary: "serve connections as files, in the foreground",
	examples: `  connfs mount --airflow-home ~/airflow ~/conn     for yourself alone, on a laptop
  connfs mount --config /etc/connfs/config.toml    as root: the file names mounts and grants
  connfs mount --airflow-home /opt/airflow /conn   as root: grants from /etc/connfs/config.toml

Where an ordinary user mounts, and no grant is for anybody else, nobody else can reach the mount.

It prints "ready" on standard error once files can be read. SIGTERM, SIGINT and Ctrl-C unmount
and end it. On SIGHUP it reads its configuration again.
`,
	options: (*flags).common,
	run:     (*program).mount,
}

// lastWords is how long the daemon waits at its end for a standard error that does not take its
// last lines.
const lastWords = time.Second

func (p *program) mount(ctx context.Context, fl *flags) error {
	out := stderr.New(lostLines)
	p.stderr, p.flush = out, func() { out.Flush(lastWords) }
	o, err := p.options(fl)
	if err != nil {
		return err
	}
	switch fl.NArg() {
	case 0:
	case 1:
		if fl.Arg(0) == "" {
			return &usageError{"the mountpoint is empty: is a variable not set?", fl.Name()}
		}
		if o.Mountpoint, err = filepath.Abs(fl.Arg(0)); err != nil {
			return fmt.Errorf("finding the mountpoint: %w", err)
		}
	default:
		return &usageError{fmt.Sprintf("it takes one mountpoint, not %d", fl.NArg()), fl.Name()}
	}
	o.NeedMount, o.Stderr = true, out
	if err := session.Cleanse(); err != nil {
		return err
	}
	o.Log = p.logger(slog.LevelInfo)
	return daemon.Mount(ctx, o)
}

// options returns what the options say that all commands share.
func (p *program) options(fl *flags) (session.Options, error) {
	if err := fl.refuseEmpty("config", "airflow-home"); err != nil {
		return session.Options{}, err
	}
	o := session.Options{
		ConfigFile: fl.config, ConfigExplicit: fl.config != "", Log: p.logger(slog.LevelWarn),
	}
	if o.ConfigFile == "" {
		o.ConfigFile = os.Getenv("CONNFS_CONFIG")
		o.ConfigExplicit = o.ConfigFile != ""
	}
	if o.ConfigFile == "" {
		o.ConfigFile, o.ConfigExplicit = config.FindFile(os.Geteuid(), os.Getenv)
	}
	var err error
	if o.ConfigFile, err = filepath.Abs(o.ConfigFile); err != nil {
		return o, fmt.Errorf("finding the configuration file: %w", err)
	}
	if fl.airflowHome != "" {
		if o.AirflowHome, err = filepath.Abs(fl.airflowHome); err != nil {
			return o, fmt.Errorf("finding the directory of Airflow: %w", err)
		}
	}
	return o, nil
}

// refuseEmpty refuses options that are there and empty, as those of a variable are that is not set:
// without them, connfs would look elsewhere.
func (fl *flags) refuseEmpty(names ...string) (err error) {
	fl.Visit(func(f *flag.Flag) {
		if slices.Contains(names, f.Name) && f.Value.String() == "" {
			err = &usageError{"--" + f.Name + " is empty: is a variable not set?", fl.Name()}
		}
	})
	return err
}

// resolver runs as a resolver child, on standard input and output.
func (p *program) resolver() int {
	// The front ends a child, by SIGKILL or by closing the pipe. A terminal does not.
	harden.IgnoreTerminal()
	harden.LockAll(false)
	writes := len(p.args) > 1 && p.args[1] == session.WritesArgument
	if err := harden.LimitChild(writes); err != nil {
		fmt.Fprintln(p.stderr, err)
		return exitFailed
	}
	// Its log goes to the front, which has a place for it.
	slog.SetDefault(slog.New(&logHandler{mu: new(sync.Mutex), w: p.stderr, level: slog.LevelWarn}))
	err := child.Serve(p.stdin, p.stdout, child.Configure)
	if err != nil && err != io.ErrUnexpectedEOF {
		fmt.Fprintln(p.stderr, err)
		return exitFailed
	}
	return exitOK
}
