// Package config makes one valid configuration out of connfs's config.toml, the
// files that it includes or names, an Airflow's own configuration, and the
// environment. What is wrong is reported with its file, its line and its key,
// all of it at once.
//
// It reads secrets and may run the commands that an airflow.cfg names, so it
// belongs in a child that exits, and never in the front. The result comes in two
// parts: the front's, which holds no secret, and the resolver's, which does.
package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/internal/users"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/environment"
)

// loader is the state of one Load.
type loader struct {
	Source
	report
	owners   trust.Owners // whose files are opened for this configuration
	withheld []string     // names of variables that must not meet what a file of others says
}

// Load reads a configuration. Its error is of type [Errors], unless ctx ended or
// Drop failed. What config.toml sets wins over what Airflow's configuration says.
func Load(ctx context.Context, src Source) (*Result, error) {
	l := &loader{Source: src}
	if l.LookupUser == nil {
		l.LookupUser = users.Lookup
	}
	if l.LookupUID == nil {
		l.LookupUID = users.LookupUID
	}

	root, f := l.openConfig()
	home := l.findHome(&f)
	child := l.chooseChild(ctx, &f, home)
	l.owners = l.process()
	if child.Child != nil {
		l.owners = l.owners.And(child.UID)
	}
	if l.Trust != nil {
		l.Trust(l.owners)
	}
	if root != nil {
		l.readTables(root, &f)
	}
	l.chooseMounts(&f)
	if err := l.err(); err != nil {
		return nil, err
	}
	if l.EUID == 0 && l.Drop != nil {
		var id Identity
		if child.Child != nil {
			id = Identity{UID: child.UID, GID: child.GID, Groups: child.Groups}
		}
		if err := l.Drop(id); err != nil {
			return nil, fmt.Errorf("giving up the rights of root: %w", err)
		}
	}
	a := l.readAirflow(ctx, &f, home, child)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deriving := l.deriving(&f, &a, home, child)
	variables := environment.Variables(l.Environ)
	l.refuseNowhere(&f, &a, home, len(variables))
	if err := l.err(); err != nil {
		return nil, err
	}
	owner, others := l.readers(ctx, &f)

	front := settings.Front{
		Config:      f.path,
		Mounts:      f.mounts,
		Rules:       f.rules,
		SealedBy:    f.sealedBy(),
		OwnerOnly:   owner,
		Others:      others,
		TTL:         f.ttl.v,
		NegativeTTL: f.negativeTTL.v,
		Epoch:       f.epoch.v,
		Timeout:     f.timeout.v,
		ShareNames:  f.shareNames.v,
		MemoryLock:  f.memoryLock.v,
		Audit: settings.Audit{File: f.auditFile.v, Required: f.auditRequired.v,
			Cgroup: f.auditCgroup.v, Default: !f.auditFile.set},
		Child:    child.Child,
		DAGs:     deriving,
		Writable: f.writable.v,
	}
	if a.metastore != nil {
		if file := a.metastore.File(); file != "" {
			front.DatabaseDir = filepath.Dir(file)
		}
	}
	if !f.epoch.set {
		front.Epoch = defaultEpoch(front.TTL)
	}
	resolver := all.Settings{Order: f.order.v, OnError: f.onError.v, Secrets: a.secrets,
		Metastore: a.metastore}
	resolver.Environment.File = f.environmentFile.v
	if f.environmentFile.v == "" {
		resolver.Environment.Variables = variables
	}
	resolver.Login = backend.Masked(l.Environ, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return settings.Login(name) && !slices.Contains(l.withheld, name)
	})
	resolver.Environment.Spellings = f.spellings()
	front.Path = path(&f, &a, len(resolver.Environment.Variables))
	front.Warnings = l.warnings
	return &Result{
		Front:          front,
		Resolver:       resolver,
		KMS:            f.keyServices(),
		KMSConnections: f.kmsConnections.v,
		Settings:       l.effective(&f, &a, home, child, front),
		Warnings:       l.warnings,
		Owners:         l.owners,
	}, nil
}

// chooseMounts takes the mountpoints from the command line or from the file, not from both.
func (l *loader) chooseMounts(f *file) {
	switch {
	case l.Mountpoint != "" && len(f.mounts) > 0:
		l.add(&Error{File: f.path, Line: f.at[0], Key: "mount",
			Message: "the command line names a mountpoint too", Hint: "only one of the two"})
	case l.Mountpoint != "":
		f.mounts = []settings.Mount{{Path: l.Mountpoint}}
	case l.NeedMount && len(f.mounts) == 0 && len(l.errs) == 0:
		l.add(&Error{Message: "no mountpoint",
			Hint: "connfs mount MOUNTPOINT, or a [[mount]] with a path in the configuration"})
	}
}

// readers returns the uid of an ordinary user who started connfs by hand without any grant, and who
// may read everything: that user holds the keys anyway. others says that somebody else must be able
// to reach the mount.
func (l *loader) readers(ctx context.Context, f *file) (owner *uint32, others bool) {
	switch {
	case len(f.rules) > 0:
		others = l.EUID == 0 ||
			slices.ContainsFunc(f.rules, func(r policy.Rule) bool { return !l.isOwn(ctx, &r) })
		return nil, others
	case l.EUID == 0:
		l.warn("there is no [[grant]], so nobody may read anything")
		return nil, true
	case l.Service:
		l.warn("there is no [[grant]], so nobody may read anything: a service manager started "+
			"connfs; without it, uid %d alone could read", l.EUID)
		return nil, false
	}
	missing := "configuration file"
	if f.found {
		missing = "[[grant]]"
	}
	uid := uint32(l.EUID)
	l.warn("there is no %s: uid %d, and nobody else, may read every connection", missing, uid)
	return &uid, false
}

// isOwn reports whether a rule is for nobody but the user who started connfs.
func (l *loader) isOwn(ctx context.Context, r *policy.Rule) bool {
	switch {
	case r.Derived():
		return false // no DAG can grant anything to this user
	case r.UID != nil:
		return *r.UID == uint32(l.EUID)
	}
	u, err := l.LookupUser(ctx, r.RunAsUser)
	return err == nil && u.UID == uint32(l.EUID)
}

// refuseNowhere reports a configuration by which no connection can ever be found: a mount would be
// an empty directory for ever. So would one of a directory that is not Airflow's home, whatever
// else lies in the environment.
func (l *loader) refuseNowhere(f *file, a *airflow, h home, variables int) {
	if a.metastore != nil || a.secrets != nil || len(l.errs) > 0 {
		return
	}
	why := strings.TrimPrefix(a.why, "not searched: ")
	_, err := os.Stat(filepath.Join(h.path, "airflow.cfg"))
	switch {
	case h.origin == homeOption && !a.hasFile && errors.Is(err, fs.ErrNotExist):
		l.add(&Error{Key: homeOption,
			Message: fmt.Sprintf("%s is not an Airflow home: it holds no airflow.cfg and no "+
				"airflow.db", h.path),
			Hint: "name the directory that Airflow calls AIRFLOW_HOME"})
	case l.NeedMount && variables == 0 && f.environmentFile.v == "":
		l.add(&Error{
			Message: "there is nowhere to look for connections: " + why + ", there is no secrets " +
				"backend, no [environment] file, and no variable AIRFLOW_CONN_*",
			Hint: "connfs mount --airflow-home DIRECTORY, or set metastore.url or " +
				"secrets.backend in the configuration"})
	}
}

// path describes the search path, one sentence for each backend, in its order.
func path(f *file, a *airflow, variables int) []string {
	place := "first"
	if a.secrets != nil && f.order.v == "airflow" {
		place = "next"
	} else if a.secrets != nil {
		place = "last"
	}
	environment := fmt.Sprintf("environment: searched %s, always in the path; %d AIRFLOW_CONN_* "+
		"variables were there at the start", place, variables)
	if f.environmentFile.v != "" {
		environment = fmt.Sprintf("environment: searched %s, always in the path; its lines are "+
			"in %s", place, f.environmentFile.v)
	}
	alternative := "alternative backend: " + a.alternative.why(f.order)
	metastore := "metastore: " + a.why
	if place == "last" {
		return []string{alternative, metastore, environment}
	}
	return []string{alternative, environment, metastore}
}
