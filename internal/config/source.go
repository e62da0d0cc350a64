package config

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/internal/users"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/all"
)

// DefaultFile is the configuration file if nothing names another; see [FindFile].
const DefaultFile = "/etc/connfs/config.toml"

// Source is everything that a configuration is made of.
type Source struct {
	// ConfigFile is the path of config.toml; empty if there is no such file.
	ConfigFile string
	// ConfigExplicit says that somebody asked for ConfigFile. Otherwise the file need not
	// be there.
	ConfigExplicit bool
	// AirflowHome is the --airflow-home of the command line; empty: what
	// airflow_home says, or else the variable AIRFLOW_HOME.
	AirflowHome string
	// Mountpoint is the command line's mountpoint, made absolute; empty if it names no
	// mountpoint.
	Mountpoint string
	// NeedMount says that the command mounts, so that a configuration without a
	// mountpoint is wrong.
	NeedMount bool
	// Service says that a service manager started connfs, and not somebody by hand.
	Service bool
	// Environ is the environment that connfs was started with, as NAME=value.
	Environ []string
	// EUID is the effective uid that connfs was started with.
	EUID int

	// Drop gives up the rights of root. It is called once, and only where EUID is
	// 0: after config.toml and the files that it names were read, and before
	// anything under airflow_home is read or any of its commands runs. Nil: stay.
	Drop func(Identity) error

	// Trust is called once, with the owners whose files may be opened for this
	// configuration, before any file but config.toml is. Nil: nobody need know.
	Trust func(trust.Owners)

	// Withhold is called with the names of login variables that the backends of this
	// configuration must not get, before one is opened. Nil: nobody need know.
	Withhold func(names []string)

	// LookupUser and LookupUID find accounts. Nil: those of package users.
	LookupUser func(ctx context.Context, name string) (users.User, error)
	LookupUID  func(ctx context.Context, uid uint32) (users.User, error)

	ownerOf func(path string) uint32 // nil: the kernel's word; tests need not be root
}

// process returns the owners whose files say what connfs itself does: root alone where root
// started it.
func (s *Source) process() trust.Owners {
	owners := trust.Process(s.EUID, os.Getegid())
	owners.OwnerOf = s.ownerOf
	return owners
}

// Identity is the user that a process becomes with [Source.Drop]. Uid 0 stands for root
// without its capabilities.
type Identity struct {
	UID    uint32
	GID    uint32
	Groups []uint32
}

// Result is a valid configuration in its two parts.
type Result struct {
	Front    settings.Front
	Resolver all.Settings            // secret
	KMS      map[string]kms.Settings // by the NAME of [kms.NAME]; secret too
	// KMSConnections are the ids of the Airflow connections that may be a KMS too.
	KMSConnections []string
	Settings       []Setting // every effective key, in the order of the contract
	Warnings       []string  // also in Front

	// Owners are the owners whose files the children may open.
	Owners trust.Owners
}

// FindFile returns the configuration file if neither --config nor $CONNFS_CONFIG names one, and
// whether it is there for certain: an ordinary user's own (XDG's), or else [DefaultFile]. variable
// returns a variable of the environment.
func FindFile(euid int, variable func(string) string) (path string, found bool) {
	if euid == 0 {
		return DefaultFile, false
	}
	dir := variable("XDG_CONFIG_HOME")
	if home := variable("HOME"); !filepath.IsAbs(dir) && filepath.IsAbs(home) {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		path = filepath.Join(dir, "connfs", "config.toml")
		// One that is there and cannot be read is an error of its own.
		_, err := os.Stat(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path, true
		}
	}
	return DefaultFile, false
}

// variable returns an environment variable of the source.
func (s *Source) variable(name string) (string, bool) {
	for i := len(s.Environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(s.Environ[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// beside returns path as it is if it is absolute, and else from the directory of
// the configuration file.
func (s *Source) beside(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(s.ConfigFile), path)
}
