// Package daemon serves connections as files: it mounts, reloads the configuration, and
// unmounts at the end.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/fs"
	"github.com/connfs/connfs/internal/audit"
	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/broker"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/settings"
)

// Mount mounts and serves until ctx ends or SIGTERM or SIGINT arrives, and then unmounts. On
// SIGHUP it reads the configuration again. It logs "ready", and tells systemd, once reads work.
// Its errors are of type *[MountError] where a mountpoint is the cause.
func Mount(ctx context.Context, o session.Options) (err error) {
	// No descriptor that connfs was started with reaches a child. It fails on kernels that cannot
	// run the rest either.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	// The daemon must not end because the reader of its log does.
	signal.Ignore(syscall.SIGPIPE)
	// Nor must it stop because it writes to a terminal from the background.
	signal.Ignore(syscall.SIGTTOU)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	locked := harden.LockAll(true)
	s, err := session.New(ctx, o)
	if err != nil {
		return err
	}
	d := &daemon{Session: s, log: o.Log, manager: newManager(), changed: make(chan bool, 1)}
	defer func() { d.Close() }()
	log, err := s.OpenAudit()
	if err != nil {
		return err
	}
	d.audit = log
	defer func() { _ = d.audit.Close() }() // what it lost is in the log already
	d.broker = broker.New(broker.Config{
		State: state(s, log), Cache: s.Cache, Errno: fs.ErrnoName, Log: o.Log,
	})
	d.logStart(locked)

	if err := d.mountAll(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.unmountAll()) }()
	o.Log.Info("ready")
	d.manager.tell(sd.SdNotifyReady)
	defer func() {
		d.manager.tell(sd.SdNotifyStopping)
		d.manager.flush(time.Second)
	}()

	resumed, err := boottime.Resumed(ctx)
	if err != nil {
		return err
	}
	users, dags := time.NewTimer(d.nextUsers()), time.NewTimer(d.nextDAGs())
	var looking, reading *work // nil while nobody does
	again := false             // the look-up under way does not know all names
	defer func() {
		looking.stop()
		reading.stop()
	}()
	for {
		select {
		case <-ctx.Done():
			o.Log.Info("stopping")
			return nil
		case <-hup:
			looking.stop()
			reading.stop()
			reloaded := d.reload(ctx)
			d.AskForUnknownUsers()
			looking, reading, again = d.lookUp(ctx), d.readDAGs(ctx, reloaded), false
		case <-d.changed:
			d.broker.SetPolicy(d.Policy())
		case <-users.C:
			if looking == nil {
				looking = d.lookUp(ctx)
			}
		case <-looking.over(): // a look-up tells the log itself what fails
			looking = nil
			if again {
				looking, again = d.lookUp(ctx), false
			}
			users.Reset(d.nextUsers())
		case <-dags.C:
			if reading == nil {
				reading = d.readDAGs(ctx, false)
			}
		case err := <-reading.result():
			reading = nil
			dags.Reset(d.nextDAGs())
			if d.dagsChanged(err) {
				d.broker.SetPolicy(d.Policy())
				if again = looking != nil; !again {
					looking = d.lookUp(ctx)
				}
			}
		case <-resumed:
			o.Log.Info("the machine was suspended: what is out of date is dropped")
			d.Expire()
			users.Reset(0)
			dags.Reset(0)
		case path := <-d.lost:
			return mountError(path, "", "the mount is gone: somebody unmounted it")
		}
	}
}

// jitter returns a random duration between 3/4 and 5/4 of d, so that the daemons of a site do
// not all ask at the same moment.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

// daemon is one run of Mount.
type daemon struct {
	*session.Session // a reload replaces it

	log     *slog.Logger
	manager *manager
	audit   *audit.Log
	broker  *broker.Broker
	mounts  []*mount
	retired []context.CancelFunc // end the last sessions that were replaced
	lost    chan string          // paths whose mount has ended
	changed chan bool            // receives when the uid of a user has changed
}

// logStart logs where the daemon looks for connections, and what it protects.
func (d *daemon) logStart(locked bool) {
	for _, sentence := range d.Front.Path {
		d.log.Info("search path: " + sentence)
	}
	if !d.Front.Others {
		d.log.Info("the mount is yours alone: no other user can reach it", "uid", os.Geteuid())
	}
	if d.AuditOff() {
		d.log.Info(`no audit lines: they would fill this terminal; [audit] file = "-" shows them`)
	}
	if c := d.Front.Child; c != nil {
		d.log.Info("resolver children run as another user", "uid", c.UID, "why", c.Why)
	}
	children := d.Pool.State()
	for _, who := range []struct{ name, swap string }{
		{"the daemon", harden.SwapState(locked)}, {"the resolver children", children.Swap},
	} {
		if who.swap == harden.NotProtected {
			d.log.Warn("memory of " + who.name + " can be swapped out: " +
				"raise LimitMEMLOCK= to infinity, or set MemorySwapMax=0")
		} else {
			d.log.Info("memory of " + who.name + " is kept from swap: " + who.swap)
		}
	}
	d.log.Info("each resolver child is confined: " + children.String())
	for _, what := range children.Missing() {
		d.log.Warn("resolver children are confined less than they could be: " + what)
	}
}

func (d *daemon) mountAll() error {
	d.lost = make(chan string, len(d.Front.Mounts))
	for _, m := range d.Front.Mounts {
		if err := d.mountOne(m.Path); err != nil {
			return errors.Join(err, d.unmountAll())
		}
	}
	return nil
}

func (d *daemon) mountOne(path string) error {
	t, err := prepareMountpoint(path, os.Geteuid() == 0)
	if err != nil {
		return err
	}
	defer t.close()
	tree := fs.New(fs.Config{Provider: d.broker, Mount: path, ShareNames: d.Front.ShareNames})
	m, err := mountTree(t, tree, d.Front.Others)
	if m != nil {
		d.mounts = append(d.mounts, m)
	}
	if err != nil {
		return err
	}
	go func() {
		m.server.Wait()
		d.lost <- path
	}()
	warning, err := m.shows(session.Service())
	if warning != "" {
		d.log.Warn(warning, "mountpoint", path)
	}
	return err
}

// unmountAll unmounts everything. Its error says what is left.
func (d *daemon) unmountAll() error {
	var errs []error
	for _, m := range slices.Backward(d.mounts) {
		errs = append(errs, m.close(d.log))
	}
	d.mounts = nil
	return errors.Join(errs...)
}

// reload reads the configuration again, and reports whether it is in force now. If anything is
// wrong with it, the old one stays.
func (d *daemon) reload(ctx context.Context) bool {
	d.manager.tell(reloading())
	defer d.manager.tell(sd.SdNotifyReady)
	if err := d.replace(ctx); err != nil {
		d.log.Error("not reloaded: the old configuration stays in force", "error", err)
		return false
	}
	d.log.Info("reloaded")
	return true
}

// replace makes everything that the new configuration needs, and then swaps it in at once.
func (d *daemon) replace(ctx context.Context) error {
	next, err := d.Next(ctx, func(now *settings.Front) error { return unchanged(&d.Front, now) })
	if err != nil {
		return err
	}
	log := d.audit
	if next.Front.Audit == d.Front.Audit {
		err = log.Reopen()
	} else {
		log, err = next.OpenAudit()
	}
	if err != nil {
		next.Retire(ctx)
		return err
	}
	old, oldLog := d.Session, d.audit
	next.RefreshUsers(ctx)
	d.Session, d.audit = next, log
	d.broker.Replace(state(next, log))
	d.retire(old)
	if oldLog != log {
		// Reads that are under way still write to it.
		time.AfterFunc(old.Front.Timeout+time.Second, func() {
			_ = oldLog.Close() // what it lost is in the log already
		})
	}
	return nil
}

// maxRetired is how many replaced configurations still answer reads that are under way. Each has a
// child at most.
const maxRetired = 2

// retire lets the reads that are under way end with the old configuration. If there are too many
// old ones, the reads of the oldest are asked again of the present one.
func (d *daemon) retire(old *session.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), old.Front.Timeout+time.Second)
	go func() {
		defer cancel()
		old.Retire(ctx)
	}()
	if d.retired = append(d.retired, cancel); len(d.retired) > maxRetired {
		d.retired[0]()
		d.retired = d.retired[1:]
	}
}

// unchanged fails if the new settings change what a running daemon cannot change.
func unchanged(old, now *settings.Front) error {
	switch {
	case !reflect.DeepEqual(old.Mounts, now.Mounts):
		return errors.New("mountpoints can only be changed by a restart")
	case old.ShareNames != now.ShareNames:
		return errors.New("share_names can only be changed by a restart")
	case old.Others != now.Others:
		return errors.New("a mount for one user alone can only get grants for others by a restart")
	}
	return nil
}
