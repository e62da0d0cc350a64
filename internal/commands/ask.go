// Package commands is what the commands answer that need no mount. They decide by the same policy
// as a mount, and ask a resolver of their own.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/fs"
	"github.com/connfs/connfs/internal/audit"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/session"
	"github.com/connfs/connfs/internal/spelling"
)

// Get writes the connection id to w in format, if the policy lets uid read it. Where the audit
// goes to a file, it writes a line as a read of the file would. Errors of the policy, the backends
// and the audit are of type *[conn.Error].
func Get(
	ctx context.Context, s *session.Session, uid uint32, id string, format conn.Format, w io.Writer,
) error {
	d := s.Policy().Decide(uid, id)
	e := audit.Entry{
		Time: time.Now(), Op: "get", UID: uid, GID: uint32(os.Getgid()), PID: uint32(os.Getpid()),
		RunAsUser: d.RunAsUser, DAGs: d.DAG, ID: id, Allowed: d.Allowed, Rule: d.Rule,
	}
	var v *cache.Value
	err := refused(uid, d)
	if err == nil {
		var o cache.Origin
		if v, o, err = s.Pool.Get(ctx, uid, id, format); err == nil {
			defer v.Release()
			err = demanded(&d, o.Backend, o.KMS)
		}
		e.Source, e.Sealed, e.KMS, e.Key = o.Backend, o.Sealed(), o.KMS, o.Key
	}
	e.Errno, e.Duration = fs.ErrnoName(err), time.Since(e.Time)
	if auditErr := auditOnce(s, &e); err == nil && s.Front.Audit.Required {
		err = auditErr
	}
	if err != nil {
		return err
	}
	return writeValue(w, v)
}

// demanded returns the error for a value that is refused for by whom it was sealed: the KMS of
// that name; empty: nobody.
func demanded(d *policy.Decision, source, kms string) error {
	reason := d.Refuses(kms)
	if reason == "" {
		return nil
	}
	return &conn.Error{Kind: conn.KeyRejected, Source: source, Reason: reason}
}

// writeValue writes a value from its locked memory.
func writeValue(w io.Writer, v *cache.Value) error {
	for _, part := range v.Slices(0, v.Size()) {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("writing the connection: %w", err)
		}
	}
	return nil
}

// refused returns the error of a decision that refuses, and nil for one that allows.
func refused(uid uint32, d policy.Decision) error {
	if d.Allowed {
		return nil
	}
	return &conn.Error{
		Kind: conn.NotGranted, Reason: fmt.Sprintf("uid %d: %s", uid, d.Rule),
		Hint: "a [[grant]] of the configuration must name this user and id",
	}
}

// auditOnce writes one line to the audit file. Where the audit goes to standard error, it writes
// none: the command's own messages go there.
func auditOnce(s *session.Session, e *audit.Entry) error {
	if s.Front.Audit.File == "-" {
		return nil
	}
	log, err := s.OpenAudit()
	if err == nil {
		err = errors.Join(log.Write(e, time.Now().Add(s.Front.Timeout)), log.Close())
	}
	if err != nil {
		return &conn.Error{Kind: conn.Denied, Source: "audit", Reason: err.Error(), Err: err}
	}
	return nil
}

// List returns the ids that uid may read, and the backends that could not list their ids.
func List(
	ctx context.Context, s *session.Session, uid uint32,
) (ids []string, failed []resolver.Answer, err error) {
	p := s.Policy()
	if !p.ReadsAnything(uid) {
		return nil, nil, nil
	}
	l, err := s.Pool.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range l.IDs {
		if p.Decide(uid, id).Allowed {
			ids = append(ids, id)
		}
	}
	return ids, l.Failed, nil
}

// Explanation says why a caller can, or cannot, read a connection. It never holds the value.
type Explanation struct {
	ID        string            `json:"id"`
	File      string            `json:"file"` // its name in the mount; empty: no name is valid
	UID       uint32            `json:"uid"`
	RunAsUser string            `json:"run_as_user"`
	Allowed   bool              `json:"allowed"`
	Rule      string            `json:"rule"`
	Path      []string          `json:"search_path"`
	Answers   []resolver.Answer `json:"answers"` // empty where the policy refuses
	// Sealed says whether the connection is sealed where it is kept, and KMS and Key by what:
	// the kms_conn_id, and which key, as that KMS names it. Empty where it cannot be read.
	Sealed bool   `json:"sealed"`
	KMS    string `json:"kms"`
	Key    string `json:"key"`
	// Demands is who demands that it is sealed: "file:line" of a grant, or kms.NAME; empty:
	// nobody. Unsealed says why it is refused therefore; empty: it is not.
	Demands  string `json:"sealed_demanded_by"`
	Unsealed string `json:"sealed_refusal,omitempty"`
	Details
	Errno     string `json:"errno"` // what a reader gets; empty: it gets the connection
	ErrnoText string `json:"errno_text"`
}

// Explain says what would happen if uid read id. What the policy refuses reaches no backend.
func Explain(ctx context.Context, s *session.Session, uid uint32, id string) (*Explanation, error) {
	d := s.Policy().Decide(uid, id)
	e := &Explanation{
		ID: id, UID: uid, RunAsUser: d.RunAsUser, Allowed: d.Allowed, Rule: d.Rule,
		Path: s.Front.Path, Answers: []resolver.Answer{}, Demands: d.Demands(),
	}
	e.File, _ = conn.FileName(id)
	e.Details = details(ctx, s, uid, id, d)
	failure := refused(uid, d)
	if d.Allowed {
		var err error
		if e.Answers, err = s.Pool.Explain(ctx, id); err != nil {
			return nil, err
		}
		failure = e.outcome(&d)
		if conn.KindOf(failure) == conn.Absent && e.Note == "" {
			e.Note = meant(ctx, s, uid, id)
		}
	}
	if failure != nil {
		e.Errno, e.ErrnoText = fs.ErrnoName(failure), fs.Errno(failure).Error()
	}
	return e, nil
}

// meant returns the question whether a caller, who may read id, meant another connection that it
// may read.
func meant(ctx context.Context, s *session.Session, uid uint32, id string) string {
	ids, _, err := List(ctx, s, uid)
	if err != nil {
		return "" // an answer of the backends, or their silence, is told already
	}
	return spelling.DidYouMean(id, ids)
}

// outcome returns what a reader gets after the answers: the error of the backend that decides,
// or absent if no backend decides; and nil if that one found the connection, unless it had to be
// sealed. It fills in by what it is sealed.
func (e *Explanation) outcome(d *policy.Decision) error {
	i := slices.IndexFunc(e.Answers, func(a resolver.Answer) bool { return a.Decides })
	if i < 0 {
		return &conn.Error{Kind: conn.Absent}
	}
	a := &e.Answers[i]
	if a.Result != "found" {
		return &conn.Error{Kind: a.Kind, Source: a.Backend, Reason: a.Reason}
	}
	e.Sealed, e.KMS, e.Key = a.KMS != "", a.KMS, a.Key
	e.Unsealed = d.Refuses(a.KMS)
	return demanded(d, a.Backend, a.KMS)
}

// IsConfigurationError reports whether e says that the configuration is wrong.
func IsConfigurationError(e *conn.Error) bool { return e.Source == resolver.SourceConfiguration }
