package vault

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
)

// engineTime is for how long a mount whose engine was looked at is not looked at again.
const engineTime = time.Minute

// fault is what Vault says of a path at which it has nothing, besides that.
type fault int

const (
	nothingElse  fault = iota
	noMount            // no secrets engine is mounted there
	versionedOne       // the engine is of version 2, and the path is one of version 1
)

// faultOf returns it. Vault has no code for it, only these texts, of api.go and of the engine.
func faultOf(errs, warnings []string) fault {
	for _, text := range errs {
		if strings.HasPrefix(text, "no handler for route") {
			return noMount
		}
	}
	for _, text := range warnings {
		if strings.HasPrefix(text, "Invalid path for a versioned K/V secrets engine") {
			return versionedOne
		}
	}
	return nothingElse
}

// engines remembers the mounts that were looked at, and when.
type engines struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (e *engines) fresh(mount string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.seen[mount]) < engineTime
}

func (e *engines) add(mount string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = make(map[string]time.Time)
	}
	if at.After(e.seen[mount]) {
		e.seen[mount] = at
	}
}

// copy returns the mounts for the next child; those that it would look at again are left out.
func (e *engines) copy() map[string]time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make(map[string]time.Time)
	for mount, at := range e.seen {
		if time.Since(at) < engineTime {
			all[mount] = at
		}
	}
	return all
}

// missing returns what it means that Vault has nothing at a path of a mount. It is Absent only
// where the mount has an engine of the version that the arguments name. Elsewhere no connection
// would ever be found, and another backend would answer for every one of them. Airflow takes
// that for absent, too.
func (v *Store) missing(ctx context.Context, s *session, mount string, err error) error {
	var status *statusError
	if !errors.As(err, &status) || conn.KindOf(err) != conn.Absent {
		return err
	}
	switch status.fault {
	case noMount:
		if v.mount == "" {
			return conn.Errorf(conn.Absent, "", "the id names no mount of Vault")
		}
		return misled("Vault has no secrets engine at the mount "+mount, "look at mount_point")
	case versionedOne:
		return otherVersion(mount, "2")
	}
	if v.engines.fresh(mount) {
		return err
	}
	if engineErr := v.engine(ctx, s, mount); engineErr != nil {
		return engineErr
	}
	v.engines.add(mount, time.Now())
	return err
}

// engine asks Vault which engine is at a mount, and returns why connections cannot be there. Where
// the token may not ask, nobody knows.
func (v *Store) engine(ctx context.Context, s *session, mount string) error {
	var answer struct {
		Data struct {
			Type    string `json:"type"`
			Path    string `json:"path"`
			Options struct {
				Version string `json:"version"`
			} `json:"options"`
		} `json:"data"`
	}
	err := v.api.get(ctx, s.Token, "sys/internal/ui/mounts/"+mount, nil, &answer)
	var status *statusError
	switch d := answer.Data; {
	case errors.As(err, &status) && status.status < 429:
		return nil
	case err != nil:
		return err
	case d.Type != "kv" && d.Type != "generic" && d.Type != "cubbyhole":
		return misled("the secrets engine at the mount "+mount+" is not a key-value engine",
			"look at mount_point")
	case d.Options.Version == "2" && v.version == 1:
		return otherVersion(mount, "2")
	case d.Options.Version != "2" && v.version == 2:
		return otherVersion(mount, "1")
	case v.version == 2 && d.Path != mount+"/":
		return misled("the mount of "+mount+" is "+strings.TrimSuffix(d.Path, "/"),
			"put what follows it into connections_path")
	}
	return nil
}

func otherVersion(mount, version string) error {
	return misled("the key-value engine at the mount "+mount+" is of version "+version,
		"set kv_engine_version to "+version)
}

func misled(reason, hint string) error {
	return &conn.Error{Kind: conn.Unreachable, Reason: reason, Hint: hint}
}
