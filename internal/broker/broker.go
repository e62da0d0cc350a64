// Package broker is the read path. Its steps always come in this order: decide, look into
// the cache or join the shared fetch, audit, reply. Each request is decided anew for its
// caller, and no decision is kept with a value.
//
// To follow one read, begin at [Broker.Open] and [Broker.Read], which package fs calls:
//
//	Open, Read       broker.go  ask the policy, and write the audit line
//	  decidedValue   broker.go  asks the policy again after a wait
//	    value        fetch.go   takes the value from the cache, or joins a flight
//	      start      quota.go   starts the flight, or queues it where its user has too many
//	        fetch    fetch.go   asks the pool of resolver children
//	          land   fetch.go   puts the value into the cache and wakes those who wait
package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/audit"
	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/policy"
)

// Fetcher resolves connections: the pool of resolver children.
type Fetcher interface {
	// Fetch returns the rendered connection as a value of the cache, and where it comes from.
	// What it costs is charged to the user uid, however many others wait for it. The value is
	// pinned for the caller and not committed. The error is a *conn.Error, and [ErrReplaced] too
	// where that is the reason.
	Fetch(ctx context.Context, uid uint32, id string) (*cache.Value, cache.Origin, error)
	// List returns what the backends hold.
	List(ctx context.Context) (Listing, error)
}

// ErrReplaced is the failure of a Fetch or List of a configuration that another has replaced.
var ErrReplaced = errors.New("the configuration was replaced")

// Auditor takes the audit lines. Write returns at the deadline at the latest.
type Auditor interface {
	Write(e *audit.Entry, until time.Time) error
}

// State is what a reload replaces as a whole.
type State struct {
	Policy      *policy.Policy
	Fetcher     Fetcher
	TTL         time.Duration // how long a value may be kept
	NegativeTTL time.Duration // how long "absent" may be kept
	Timeout     time.Duration // deadline of one read
	Audit       Auditor
	AuditMust   bool // a read that cannot be audited is denied
}

// Config describes a [Broker].
type Config struct {
	State *State
	Cache *cache.Cache
	Errno func(error) string // the name of an error's number, for the audit
	Log   *slog.Logger       // nil: the default logger
}

// Broker authorises and serves reads. It may be used concurrently.
type Broker struct {
	state atomic.Pointer[State]
	cache *cache.Cache
	errno func(error) string
	log   *failureLog
	pacer pacer

	mu       sync.Mutex
	quotas   map[uint32]*quota
	flights  map[string]*flight
	absent   map[string]absence
	contents contents
	listing  listing
	listings *singleflight.Group // asks the backends for a listing; another after a Replace
}

// absence is an answer of "absent" that is still fresh.
type absence struct {
	err   error
	until time.Time
}

// Bounds of the tables that readers can make grow. Entries that do not fit are forgotten.
// That costs a fetch, and never makes an answer wrong.
const maxAbsent = 1 << 14

// New returns a broker.
func New(cfg Config) *Broker {
	b := &Broker{
		cache: cfg.Cache, errno: cfg.Errno, log: newFailureLog(cfg.Log),
		quotas: make(map[uint32]*quota), contents: newContents(),
	}
	b.state.Store(cfg.State)
	b.forget()
	return b
}

// forget drops the answers of an earlier configuration. b.mu is held, or b is new.
func (b *Broker) forget() {
	b.flights = make(map[string]*flight)
	b.absent = make(map[string]absence)
	b.contents.forgetSizes()
	b.listing = listing{}
	b.listings = new(singleflight.Group)
}

// Replace puts the state of a new configuration in place: from now on it decides and
// resolves every open and every read, those of open descriptors too. What the old one
// fetched is dropped.
func (b *Broker) Replace(st *State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Store(st)
	b.forget()
	b.cache.Clear()
}

// SetPolicy puts a policy in place whose users were looked up again.
func (b *Broker) SetPolicy(p *policy.Policy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := *b.state.Load()
	st.Policy = p
	b.state.Store(&st)
}

// ReadsAnything reports whether the caller has any grant at all.
func (b *Broker) ReadsAnything(c conn.Caller) bool {
	return b.state.Load().Policy.ReadsAnything(c.UID)
}

// MayRead reports whether the policy lets the caller read id.
func (b *Broker) MayRead(c conn.Caller, id string) bool {
	return b.state.Load().Policy.Decide(c.UID, id).Allowed
}

// Open authorises the caller for id, makes sure that there is a value, writes the
// audit line and returns the value's version. cancel ends the wait, not the fetch.
func (b *Broker) Open(cancel <-chan struct{}, c conn.Caller, id string) (uint32, error) {
	st := b.state.Load()
	start := time.Now()
	d := st.Policy.Decide(c.UID, id)
	e := entry("open", start, c, id, d)
	if !d.Allowed {
		return 0, b.refuse(st, &e, notGranted(d))
	}
	v, origin, cached, d, err := b.decidedValue(cancel, c.UID, id, d)
	if !d.Allowed {
		e = entry("open", start, c, id, d)
	}
	e.Cached, e.Duration = cached, time.Since(start)
	from(&e, origin)
	if err != nil {
		b.log.failure(c, id, err)
		return 0, b.refuse(st, &e, err)
	}
	defer v.Release()
	if err := st.audit(&e); err != nil {
		b.log.failure(c, id, err)
		return 0, err
	}
	return version(v), nil
}

// version returns what tells the content of v from that of others: half of its digest, so that
// package fs has room for more in a handle. It is never 0.
func version(v *cache.Value) uint32 { return max(1, uint32(v.Version())) }

// Read authorises the caller for id once more and returns up to n bytes from off of the
// content that Open reported as version, or of the present one if that is 0, resolving it again
// if its time is up. The bytes may be used until release is called. At the end of the content
// data and release are nil. served is the version of the content.
func (b *Broker) Read(
	cancel <-chan struct{}, c conn.Caller, id string, opened uint32, off, n int,
) (data [][]byte, served uint32, release func(), err error) {
	st := b.state.Load()
	d := st.Policy.Decide(c.UID, id)
	if !d.Allowed {
		return nil, 0, nil, b.refuseRead(st, c, id, d, cache.Origin{}, notGranted(d))
	}
	v, origin, _, d, err := b.decidedValue(cancel, c.UID, id, d)
	if err == nil && opened != 0 && version(v) != opened {
		v.Release()
		err = &conn.Error{
			Kind: conn.Changed, Reason: "the connection changed after it was opened",
			Hint: "open it again",
		}
	}
	if err != nil {
		b.log.failure(c, id, err)
		return nil, 0, nil, b.refuseRead(st, c, id, d, origin, err)
	}
	served = version(v)
	if data = v.Slices(off, n); len(data) == 0 {
		v.Release()
		return nil, served, nil, nil
	}
	return data, served, v.Release, nil
}

// decidedValue returns the value of id to a caller whom the decision d allows to have it.
// If the caller had to wait it decides again, since the grant may have been revoked
// meanwhile. Whether the value had to be sealed is decided by its own record, also where it
// was fetched for somebody of whom nothing is demanded. It returns where the value is from
// (the zero Origin where there is none, or its grant was revoked), whether it was cached, and
// the decision that counts.
func (b *Broker) decidedValue(
	cancel <-chan struct{}, uid uint32, id string, d policy.Decision,
) (*cache.Value, cache.Origin, bool, policy.Decision, error) {
	v, cached, err := b.value(cancel, uid, id)
	if err != nil {
		return nil, cache.Origin{}, cached, d, err
	}
	if !cached {
		if d = b.state.Load().Policy.Decide(uid, id); !d.Allowed {
			v.Release()
			return nil, cache.Origin{}, false, d, notGranted(d)
		}
	}
	origin := v.Origin()
	if reason := d.Refuses(origin.KMS); reason != "" {
		v.Release()
		return nil, origin, cached, d, &conn.Error{
			Kind: conn.KeyRejected, Source: origin.Backend, Reason: reason,
		}
	}
	return v, origin, cached, d, nil
}

// Refuse records a read that package fs itself refused, such as one through the
// page cache, and returns its error.
func (b *Broker) Refuse(c conn.Caller, id string, err error) error {
	st := b.state.Load()
	d := st.Policy.Decide(c.UID, id)
	if !d.Allowed {
		err = notGranted(d)
	}
	return b.refuseRead(st, c, id, d, cache.Origin{}, err)
}

func notGranted(d policy.Decision) error {
	return &conn.Error{Kind: conn.NotGranted, Reason: d.Rule}
}

func (b *Broker) refuseRead(
	st *State, c conn.Caller, id string, d policy.Decision, origin cache.Origin, err error,
) error {
	e := entry("read", time.Now(), c, id, d)
	from(&e, origin)
	return b.refuse(st, &e, err)
}

// resent is the bit in the number of a request by which the kernel says that it sends the
// request again.
const resent = 1 << 63

// entry returns the audit line of a request with what is known at its beginning.
func entry(op string, now time.Time, c conn.Caller, id string, d policy.Decision) audit.Entry {
	return audit.Entry{
		Time: now, Op: op, Mount: c.Mount, UID: c.UID, GID: c.GID, PID: c.PID,
		Unique: c.Unique &^ resent, Resent: c.Unique&resent != 0,
		RunAsUser: d.RunAsUser, DAGs: d.DAG, ID: id, Allowed: d.Allowed, Rule: d.Rule,
	}
}

// from adds to an audit line where the value is from.
func from(e *audit.Entry, origin cache.Origin) {
	e.Source, e.Sealed, e.KMS, e.Key = origin.Backend, origin.Sealed(), origin.KMS, origin.Key
}

// refuse writes the line of a request that fails with err, and returns err. If the line
// cannot be written, that is only logged: the request fails anyway.
func (b *Broker) refuse(st *State, e *audit.Entry, err error) error {
	e.Errno = b.errno(err)
	e.Stranger = !st.Policy.ReadsAnything(e.UID)
	if e.Duration == 0 {
		e.Duration = time.Since(e.Time)
	}
	if failed := st.audit(e); failed != nil {
		b.log.failure(conn.Caller{}, "", failed)
	}
	return err
}

// audit writes a line, and gives up at the reader's deadline. It returns an error only
// where the configuration says that nothing is read without an audit.
func (st *State) audit(e *audit.Entry) error {
	if err := st.Audit.Write(e, e.Time.Add(st.Timeout)); err != nil && st.AuditMust {
		return &conn.Error{
			Kind: conn.Denied, Source: "audit",
			Reason: "the audit line cannot be written: " + err.Error(), Err: err,
		}
	}
	return nil
}

// Stat returns the size of id's content, or -1 while it is not known, and when it last changed,
// as far as is known. It asks no backend. It says that there is no such connection only if it
// knows: from a recent read, or from a listing that is complete and fresh.
func (b *Broker) Stat(c conn.Caller, id string) (size int, changed time.Time, err error) {
	st := b.state.Load()
	if d := st.Policy.Decide(c.UID, id); !d.Allowed {
		return 0, time.Time{}, notGranted(d)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.absent[id]; ok && boottime.Now().Before(a.until) {
		return 0, time.Time{}, a.err
	}
	k := b.contents.get(id)
	if k.size < 0 && b.listing.lacks(id) {
		return 0, time.Time{}, conn.Errorf(conn.Absent, "", "no backend lists it")
	}
	return k.size, k.changed, nil
}
