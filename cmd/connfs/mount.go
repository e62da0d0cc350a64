package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/resolver/child"
	"github.com/connfs/connfs/internal/session"
)

var mountCommand = command{
	name: "mount", args: "[MOUNTPOINT]", summary: "serve connections as files, in the foreground",
	examples: `  connfs mount --airflow-home ~/airflow ~/conn     as yourself, for yourself, on a laptop
  connfs mount --config /etc/connfs/config.toml    as root, with the [[mount]] and [[grant]] of the file
  connfs mount --airflow-home /opt/airflow /conn   as root, with the grants of /etc/connfs/config.toml

It says "ready" on standard error once files can be read, unmounts and ends on SIGTERM,
SIGINT or Ctrl-C, and reads its configuration anew on SIGHUP.
`,
	options: (*flags).common,
	run:     (*program).mount,
}

func (p *program) mount(ctx context.Context, fl *flags) error {
	o, err := p.options(fl)
	if err != nil {
		return err
	}
	switch fl.NArg() {
	case 0:
	case 1:
		if o.Mountpoint, err = filepath.Abs(fl.Arg(0)); err != nil {
			return fmt.Errorf("finding the mountpoint: %w", err)
		}
	default:
		return &usageError{fmt.Sprintf("one mountpoint is enough, and there are %d", fl.NArg()), fl.Name()}
	}
	o.NeedMount = true
	if err := session.Cleanse(); err != nil {
		return err
	}
	o.Log = p.logger(slog.LevelInfo)
	return daemon.Mount(ctx, o)
}

// options returns what the options that all commands share say.
func (p *program) options(fl *flags) (session.Options, error) {
	o := session.Options{ConfigFile: fl.config, ConfigExplicit: fl.config != "", Log: p.logger(slog.LevelWarn)}
	if o.ConfigFile == "" {
		o.ConfigFile = os.Getenv("CONNFS_CONFIG")
		o.ConfigExplicit = o.ConfigFile != ""
	}
	if o.ConfigFile == "" {
		o.ConfigFile = config.DefaultFile
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

// resolver runs the child's role, on standard input and output.
func (p *program) resolver() int {
	// The front ends it, by SIGKILL or by closing the pipe; a terminal does not.
	harden.IgnoreTerminal()
	harden.LockAll(false)
	if err := child.Serve(p.stdin, p.stdout, child.Configure); err != nil && err != io.ErrUnexpectedEOF {
		fmt.Fprintln(p.stderr, "connfs resolver:", err)
		return exitFailed
	}
	return exitOK
}
