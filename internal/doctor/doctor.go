// Package doctor examines what serving rests on: the configuration, users, backends and this
// machine.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/python"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/spelling"
)

// Finding is the result of one examination.
type Finding struct {
	Level   string `json:"level"` // "ok", "warn" or "fail"
	Subject string `json:"subject"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// report collects findings.
type report struct{ findings []Finding }

func (r *report) ok(subject, format string, args ...any) {
	r.findings = append(r.findings, Finding{"ok", subject, fmt.Sprintf(format, args...), ""})
}

func (r *report) warn(subject, hint, format string, args ...any) {
	r.findings = append(r.findings, Finding{"warn", subject, fmt.Sprintf(format, args...), hint})
}

func (r *report) fail(subject, hint, format string, args ...any) {
	r.findings = append(r.findings, Finding{"fail", subject, fmt.Sprintf(format, args...), hint})
}

// failMount is fail for an error of package daemon about a mountpoint or /dev/fuse.
func (r *report) failMount(subject string, err error) {
	hint, message := "", err.Error()
	var e *daemon.MountError
	if errors.As(err, &e) {
		hint, message = e.Hint, e.Reason
		if e.Path != "" {
			message = e.Path + ": " + e.Reason
		}
	}
	r.fail(subject, hint, "%s", message)
}

// Check examines what serving rests on. If the configuration is wrong, or the resolver does not
// start, it finds nothing else.
func Check(ctx context.Context, o session.Options) []Finding {
	var r report
	s, err := session.New(ctx, o)
	if err != nil {
		r.failStart(err)
		return r.findings
	}
	defer s.Close()
	r.ok("configuration", "%s: %d grants, %d mountpoints",
		cmp.Or(s.Front.Config, "there is no config.toml"), len(s.Front.Rules), len(s.Front.Mounts))
	for _, w := range s.Front.Warnings {
		r.warn("configuration", "", "%s", w)
	}
	r.checkUsers(s)
	r.checkHost(s)
	r.checkBackends(ctx, s)
	r.checkFuse(s)
	r.checkMemory(s)
	r.checkConfinement(s)
	r.checkBinary()
	r.checkAudit(s)
	return r.findings
}

// failStart reports why no session can be made. Each line of the error is one thing that is wrong.
func (r *report) failStart(err error) {
	subject, hint, message := "start", "", err.Error()
	var ce *conn.Error
	if errors.As(err, &ce) {
		message, hint = ce.Reason, ce.Hint
		if commands.IsConfigurationError(ce) {
			subject = "configuration"
		}
	}
	for line := range strings.Lines(message) {
		r.fail(subject, hint, "%s", strings.TrimSuffix(line, "\n"))
	}
}

// maxFindings is how many findings of one kind are shown that serialized DAGs cause: they can hold
// any number.
const maxFindings = 20

// checkUsers examines to whom the configuration grants connections.
func (r *report) checkUsers(s *session.Session) {
	granted, never := commands.Grants(s, nil, "")
	named := make(map[string]bool)
	var inDAGs []string
	for _, g := range granted {
		switch {
		case g.UID != nil && *g.UID == 0:
			r.warn("users", "",
				"%s grants root, and whoever reads through an overlay over the mount reads as root",
				g.Rule)
		case g.UID != nil || named[g.RunAsUser]:
		case g.From == policy.FromConfig:
			named[g.RunAsUser] = true
			r.fail("users", "its grants let nobody read; create the user or correct the name",
				"this machine does not know run_as_user %q (%s)", g.RunAsUser, g.Rule)
		default:
			named[g.RunAsUser] = true
			inDAGs = append(inDAGs, g.RunAsUser)
		}
	}
	if len(inDAGs) > 0 {
		r.warn("users", "their tasks cannot run here either",
			"this machine does not know users that DAGs name: %s", session.JoinNames(inDAGs))
	}
	for i, g := range never {
		if i == maxFindings {
			r.warn("users", "", "%d more users of DAGs to whom no DAG can grant anything",
				len(never)-i)
			break
		}
		r.warn("users", "", "DAG %q names %s (uid %d), to whom no DAG can grant anything",
			g.DAG, g.RunAsUser, *g.UID)
	}
	skipped := s.SkippedDAGs()
	for _, why := range skipped[:min(len(skipped), maxFindings)] {
		r.warn("dags", "", "a serialized DAG, or a part of it, is ignored: %s", why)
	}
	if more := len(skipped) - maxFindings; more > 0 {
		r.warn("dags", "", "%d more serialized DAGs, or parts of them, are ignored", more)
	}
	if over := s.DAGsOver(); len(over) > 0 {
		r.fail("dags", "a grant that also names its run_as_user does not depend on what DAGs name",
			"serialized DAGs name more than %d users in all, and those that name the most grant "+
				"nothing: %s", policy.MaxUsers, session.JoinNames(over))
	}
	if s.Front.DAGs != nil && s.DAGsFail() {
		r.fail("dags", "the database role needs SELECT on the tables of serialized DAGs",
			"the serialized DAGs cannot be read, so grants without run_as_user let nobody read")
	}
}

// checkBackends tries the credentials and permissions of every backend and KMS, call by call, and
// has the backends list their ids.
func (r *report) checkBackends(ctx context.Context, s *session.Session) {
	for _, sentence := range s.Front.Path {
		r.ok("search path", "%s", sentence)
	}
	checks, err := s.Pool.Check(ctx)
	if err != nil {
		r.fail("backends", "", "%v", err)
		return
	}
	failed := make(map[string]bool)
	for _, c := range checks {
		switch {
		case c.Err != nil:
		case c.Note != "":
			r.warn(c.Name, "", "%s: %s", c.Call, c.Note)
			continue
		default:
			r.ok(c.Name, "%s", c.Call)
			continue
		}
		failed[c.Name] = true
		r.findings = append(r.findings, failedCall(c))
	}
	l, err := s.Pool.List(ctx)
	if err != nil {
		r.fail("backends", "", "%v", err)
		return
	}
	for _, f := range l.Failed {
		if !failed[f.Backend] { // else its finding is there already
			r.fail(f.Backend, f.Hint, "%s: %s", f.Result, f.Reason)
		}
	}
	r.ok("backends", "%d connections listed", len(l.IDs))
	if l.Complete {
		r.checkPatterns(s.Front.Rules, l.IDs)
	}
}

// checkPatterns looks for grants of what is not there, given every id that is.
func (r *report) checkPatterns(rules []policy.Rule, ids []string) {
	for i := range rules {
		rule := &rules[i]
		for _, pattern := range rule.Connections {
			matches := func(id string) bool { return python.Fnmatch(pattern, id) }
			if slices.ContainsFunc(ids, matches) {
				continue
			}
			r.warn("grants", spelling.DidYouMean(pattern, ids),
				"%s:%d: no backend has a connection that %q matches", rule.File, rule.Line, pattern)
		}
	}
}

// failedCall returns the finding of a call that failed: a warning, if no read needs that call.
func failedCall(c conn.Check) Finding {
	var e *conn.Error
	if !errors.As(c.Err, &e) {
		e = &conn.Error{}
	}
	f := Finding{"fail", c.Name, fmt.Sprintf("%s: %s: %s", c.Call, e.Kind, e.Reason), e.Hint}
	switch c.Only {
	case conn.OnlyListing:
		f.Level = "warn"
		f.Hint = "only listing (ls) needs this call; connections can be read without it"
	case conn.OnlySealing:
		f.Level = "warn"
		f.Hint = "only sealing needs this call; sealed connections may open without it"
	}
	return f
}

// checkFuse examines whether this user can mount on the mountpoints.
func (r *report) checkFuse(s *session.Session) {
	root := os.Geteuid() == 0
	if err := daemon.CheckDevice(); err != nil {
		r.failMount("fuse", err)
	} else {
		r.ok("fuse", "/dev/fuse can be opened")
		if !root {
			if err := daemon.CheckFusermount(s.Front.Others); err != nil {
				r.failMount("fuse", err)
			}
		}
	}
	for _, m := range s.Front.Mounts {
		r.checkMountpoint(m.Path, root)
	}
}

// checkMountpoint examines whether path can be mounted on, and what is mounted there now.
func (r *report) checkMountpoint(path string, root bool) {
	found, err := daemon.Occupied(path, root)
	switch {
	case err != nil:
		r.failMount("mountpoint", err)
	case found == daemon.Served:
		r.ok("mountpoint", "%s: a connfs serves there", path)
	case found == daemon.Stale:
		r.warn("mountpoint", "the next start takes it away",
			"%s: a connfs that is gone left its mount there", path)
	}
}

// checkMemory examines whether secrets can be swapped out.
func (r *report) checkMemory(s *session.Session) {
	if err := s.Cache.LockError(); err != nil {
		r.warn("memory", "raise the limit on locked memory",
			"memory for values cannot be locked: %v", err)
	} else {
		r.ok("memory", "memory for values is locked")
	}
	for _, who := range []struct{ name, swap string }{
		{"the daemon", harden.SwapState(harden.LockAll(true))},
		{"the resolver children", s.Pool.State().Swap},
	} {
		if who.swap == harden.NotProtected {
			r.warn("memory", "LimitMEMLOCK=infinity or MemorySwapMax=0",
				"memory of %s can be swapped out", who.name)
		} else {
			r.ok("memory", "memory of %s cannot be swapped out: %s", who.name, who.swap)
		}
	}
}

// checkConfinement examines what keeps resolver children from harm.
func (r *report) checkConfinement(s *session.Session) {
	state := s.Pool.State()
	for _, what := range state.Missing() {
		r.warn("resolver", "", "children are confined less than they could be: %s", what)
	}
	r.ok("resolver", "each child is confined: %v", state)
}

// checkBinary examines whether others than root can read this binary.
func (r *report) checkBinary() {
	st, err := os.Stat("/proc/self/exe")
	if err == nil && st.Mode().Perm()&0o044 != 0 && os.Geteuid() == 0 {
		r.warn("binary", "chmod 0711",
			"others can read it (mode %04o), and so trace its children until those have protected "+
				"themselves", st.Mode().Perm())
	}
}

// checkAudit tries to open the audit file.
func (r *report) checkAudit(s *session.Session) {
	if s.Front.Audit.File == "-" {
		return
	}
	log, err := s.OpenAudit()
	if err == nil {
		err = log.Close()
	}
	if err != nil {
		r.fail("audit", "", "%v", err)
		return
	}
	r.ok("audit", "%s can be written", s.Front.Audit.File)
}
