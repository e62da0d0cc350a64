// Package settings is the front's part of the configuration: what it needs to mount, to decide and
// to audit. It holds no secret. Secrets stay in the opaque blob that only resolver children can
// read.
package settings

import (
	"time"

	"github.com/connfs/connfs/internal/policy"
)

// Front is the front's part of a valid configuration.
type Front struct {
	Config string        `json:"config"` // the config.toml that was read; empty: there is none
	Mounts []Mount       `json:"mounts"`
	Rules  []policy.Rule `json:"rules"`

	// SealedBy are the NAMEs of the KMS that demand that every connection is sealed by one of
	// them. None: only rules demand that connections are sealed.
	SealedBy []string `json:"sealed_by,omitempty"`

	// OwnerOnly is set where an ordinary user mounts without grants: this uid may read
	// everything, and nobody else may read anything.
	OwnerOnly *uint32 `json:"owner_only,omitempty"`

	// Others says that other users than the one who mounts can reach the mount. It is false where
	// an ordinary user mounts, and no grant is for anybody else.
	Others bool `json:"others"`

	TTL         time.Duration `json:"ttl"` // 0 to 60 s
	NegativeTTL time.Duration `json:"negative_ttl"`

	// Epoch is how long a resolver child lives after its first answer. Its default, which is
	// TTL, has been filled in.
	Epoch time.Duration `json:"epoch"`

	Timeout    time.Duration `json:"timeout"` // deadline of one read
	ShareNames bool          `json:"share_names"`
	MemoryLock string        `json:"memory_lock"` // "require" or "try"
	Audit      Audit         `json:"audit"`

	Child *Child `json:"child,omitempty"` // nil: children run as the user of the front
	DAGs  *DAGs  `json:"dags,omitempty"`  // nil: no rule takes its users from serialized DAGs

	// Writable are absolute paths at or below which children, and programs that they start, may
	// write.
	Writable []string `json:"writable,omitempty"`
	// DatabaseDir is the directory of an SQLite metastore; empty: the metastore is another one.
	DatabaseDir string `json:"database_dir,omitempty"`

	// Path is the search path in its order. Each sentence names a backend, and says why it is
	// searched or not.
	Path []string `json:"path"`

	Warnings []string `json:"warnings"`
}

// Mount is one mountpoint.
type Mount struct {
	Path string `json:"path"` // absolute
}

// Audit says where the audit lines go.
type Audit struct {
	File     string `json:"file"`     // a path, "-" for standard error, or "syslog"
	Required bool   `json:"required"` // without its audit line, nothing is read
	Cgroup   bool   `json:"cgroup"`   // lines name the reader's control group
	Default  bool   `json:"default"`  // the configuration names no file
}

// DAGs says how the users are kept up to date that rules take from serialized DAGs.
type DAGs struct {
	Every       time.Duration `json:"every"`                  // how often the metastore is asked
	Keep        time.Duration `json:"keep"`                   // how long its last answer holds
	DefaultUser string        `json:"default_user,omitempty"` // [core] default_impersonation
	Never       []uint32      `json:"never"`                  // uids that no DAG can grant
}

// Child is the user as whom resolver children run, where root started connfs.
type Child struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
	Why    string   `json:"why"` // for the log: "user = NAME"
}
