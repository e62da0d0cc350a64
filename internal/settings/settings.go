// Package settings is the front's part of the configuration: what it needs to
// mount, decide and audit. It holds no secret; those stay in the opaque blob that
// only resolver children can read.
package settings

import (
	"time"

	"github.com/connfs/connfs/internal/policy"
)

// Front is the front's part of a validated configuration.
type Front struct {
	Mounts []Mount       `json:"mounts"`
	Rules  []policy.Rule `json:"rules"`
	// OwnerOnly is the only uid that may read, and it may read everything: an ordinary
	// user's mount without grants.
	OwnerOnly   *uint32       `json:"owner_only,omitempty"`
	TTL         time.Duration `json:"ttl"` // 0 to 60 s
	NegativeTTL time.Duration `json:"negative_ttl"`
	// Epoch is how long a resolver child lives after its first answer; where the
	// configuration has no epoch, it is already TTL.
	Epoch      time.Duration `json:"epoch"`
	Timeout    time.Duration `json:"timeout"` // deadline of one read
	ShareNames bool          `json:"share_names"`
	MemoryLock string        `json:"memory_lock"` // "require" or "try"
	Audit      Audit         `json:"audit"`
	Child      *Child        `json:"child,omitempty"` // nil: children run as the front does
	DAGs       *DAGs         `json:"dags,omitempty"`  // nil: no rule takes its users from serialized DAGs
	// Path is the search path in order, one sentence each: which backend, and why it is in
	// or out.
	Path     []string `json:"path"`
	Warnings []string `json:"warnings"`
}

// Mount is one mountpoint.
type Mount struct {
	Path string `json:"path"` // absolute
}

// Audit says where the audit lines go.
type Audit struct {
	File     string `json:"file"` // a path, "-" for standard error, or "syslog"
	Required bool   `json:"required"`
	Cgroup   bool   `json:"cgroup"`
}

// DAGs says how the users of derived rules are kept up to date.
type DAGs struct {
	Every time.Duration `json:"every"` // how often the metastore is asked, roughly
	// Keep is how long the last answer holds while the metastore does not answer.
	Keep        time.Duration `json:"keep"`
	DefaultUser string        `json:"default_user,omitempty"` // [core] default_impersonation
	Never       []uint32      `json:"never"`                  // uids that no DAG can grant
}

// Child is the user that resolver children run as, when connfs was started by
// root.
type Child struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
	Why    string   `json:"why"` // for the log: "user = ..." or "owner of airflow_home"
}
