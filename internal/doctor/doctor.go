// Package doctor examines what serving rests on: configuration, users, backends and the
// machine.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/session"
)

// Finding is one thing that Check looked at.
type Finding struct {
	Level   string `json:"level"` // "ok", "warn" or "fail"
	Subject string `json:"subject"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Check examines what serving rests on. Where the configuration itself is wrong, or
// the resolver does not start, that is the last finding.
func Check(ctx context.Context, o session.Options) []Finding {
	var found []Finding
	add := func(level, subject, hint, format string, args ...any) {
		found = append(found, Finding{level, subject, fmt.Sprintf(format, args...), hint})
	}
	s, err := session.New(ctx, o)
	if err != nil {
		subject, hint, message := "start", "", err.Error()
		var ce *conn.Error
		if errors.As(err, &ce) {
			message, hint = ce.Reason, ce.Hint
			if commands.IsConfigurationError(ce) {
				subject = "configuration"
			}
		}
		for line := range strings.Lines(message) { // one for each thing that is wrong
			add("fail", subject, hint, "%s", strings.TrimSuffix(line, "\n"))
		}
		return found
	}
	defer s.Close()
	add("ok", "configuration", "", "%d grants, %d mountpoints", len(s.Front.Rules), len(s.Front.Mounts))
	for _, w := range s.Front.Warnings {
		add("warn", "configuration", "", "%s", w)
	}
	checkUsers(s, add)
	checkHost(s, add)
	checkBackends(ctx, s, add)
	checkMachine(s, add)
	return found
}

type addFinding func(level, subject, hint, format string, args ...any)

// checkUsers looks at whom the grants are for.
func checkUsers(s *session.Session, add addFinding) {
	granted, never := commands.Grants(s, nil, "")
	named := make(map[string]bool)
	var inDAGs []string
	for _, g := range granted {
		switch {
		case g.UID != nil && *g.UID == 0:
			add("warn", "users", "", "%s grants root, as whom every overlay mount over this one reads", g.Rule)
		case g.UID != nil || named[g.RunAsUser]:
		case g.From == policy.FromConfig:
			named[g.RunAsUser] = true
			add("fail", "users", "its grants let nobody read; create the user or correct the name", "this machine does not know run_as_user %q (%s)", g.RunAsUser, g.Rule)
		default:
			named[g.RunAsUser] = true
			inDAGs = append(inDAGs, g.RunAsUser)
		}
	}
	if len(inDAGs) > 0 {
		add("warn", "users", "their tasks cannot run here either", "this machine does not know users that DAGs name: %s", session.Some(inDAGs))
	}
	for _, g := range never {
		add("warn", "users", "", "DAG %q names %s (uid %d), to whom no DAG can grant anything", g.DAG, g.RunAsUser, *g.UID)
	}
	if s.Front.DAGs != nil && s.DAGsFail() {
		add("fail", "dags", "the role needs SELECT on the tables of serialized DAGs", "the serialized DAGs cannot be read, so grants without run_as_user let nobody read")
	}
}

// checkBackends tries the credentials and permissions of every backend and KMS, call by
// call, and lets the backends list their ids.
func checkBackends(ctx context.Context, s *session.Session, add addFinding) {
	for _, sentence := range s.Front.Path {
		add("ok", "search path", "", "%s", sentence)
	}
	checks, err := s.Pool.Check(ctx)
	if err != nil {
		add("fail", "backends", "", "%v", err)
		return
	}
	failed := make(map[string]bool)
	for _, c := range checks {
		if c.Err == nil {
			add("ok", c.Name, "", "%s", c.Call)
			continue
		}
		failed[c.Name] = true
		f := checkedFinding(c)
		add(f.Level, f.Subject, f.Hint, "%s", f.Message)
	}
	l, err := s.Pool.List(ctx)
	if err != nil {
		add("fail", "backends", "", "%v", err)
		return
	}
	for _, f := range l.Failed {
		if !failed[f.Backend] { // else it is said already
			add("fail", f.Backend, f.Hint, "%s: %s", f.Result, f.Reason)
		}
	}
	add("ok", "backends", "", "%d connections listed", len(l.IDs))
}

// checkedFinding returns what a call that failed means. One that no read needs is a
// warning.
func checkedFinding(c conn.Check) Finding {
	var e *conn.Error
	if !errors.As(c.Err, &e) {
		e = &conn.Error{}
	}
	f := Finding{"fail", c.Name, fmt.Sprintf("%s: %s: %s", c.Call, e.Kind, e.Reason), e.Hint}
	switch c.Only {
	case conn.OnlyListing:
		f.Level, f.Hint = "warn", "only listing (ls) needs this call; connections can be read without it"
	case conn.OnlySealing:
		f.Level, f.Hint = "warn", "only sealing needs this call; what is sealed already may still open"
	}
	return f
}

func checkMachine(s *session.Session, add addFinding) {
	root := os.Geteuid() == 0
	if _, err := os.Stat("/dev/fuse"); err != nil {
		e := daemon.NoDevice("", syscall.ENOENT).(*daemon.MountError)
		add("fail", "fuse", e.Hint, "%s", e.Reason)
	} else {
		add("ok", "fuse", "", "/dev/fuse is there")
	}
	if !root {
		if err := daemon.CheckFusermount("", s.Front.OwnerOnly == nil); err != nil {
			var me *daemon.MountError
			errors.As(err, &me)
			add("fail", "fuse", me.Hint, "%s", me.Reason)
		}
	}
	for _, m := range s.Front.Mounts {
		if err := daemon.CheckPath(m.Path, root); err != nil {
			var me *daemon.MountError
			errors.As(err, &me)
			add("fail", "mountpoint", me.Hint, "%s: %s", m.Path, me.Reason)
		}
	}
	if err := s.Cache.LockError(); err != nil {
		add("warn", "memory", "raise the limit on locked memory", "slots for plaintext cannot be locked: %v", err)
	} else {
		add("ok", "memory", "", "slots for plaintext are locked")
	}
	if state := harden.SwapState(harden.LockAll(true)); state == "not protected" {
		add("warn", "memory", "LimitMEMLOCK=infinity or MemorySwapMax=0", "memory of the resolver children can be swapped out")
	} else {
		add("ok", "memory", "", "kept from swap: %s", state)
	}
	if st, err := os.Stat("/proc/self/exe"); err == nil && st.Mode().Perm()&0o044 != 0 && root {
		add("warn", "binary", "chmod 0711", "the binary is readable by others (mode %04o), so that its children can be traced before they close themselves off", st.Mode().Perm())
	}
	if s.Front.Audit.File != "-" {
		if log, err := s.OpenAudit(); err != nil {
			add("fail", "audit", "", "%v", err)
		} else {
			log.Close()
			add("ok", "audit", "", "%s can be written", s.Front.Audit.File)
		}
	}
}
