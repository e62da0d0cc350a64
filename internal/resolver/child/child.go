// Package child is the resolver's side of the pipe: the role that reads the configuration,
// asks the backends and renders. It and its libraries hold plaintext in ordinary memory, and
// rely on being killed soon.
package child

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/network"
	"github.com/connfs/connfs/internal/resolver"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/all"
)

// Serve answers the frames that arrive on in, each in a goroutine of its own, until
// in ends with the front. configure answers OpConfigure.
func Serve(
	in io.Reader, out io.Writer,
	configure func(
		ctx context.Context, req *resolver.ConfigureRequest, env []byte,
	) (front, body []byte, err error),
) error {
	// A panic of a library must not print arguments that may be secrets.
	debug.SetTraceback("none")
	s := &server{out: out, failed: conn.Errorf(conn.Failed, "", "the resolver has no settings yet")}
	for {
		f, err := resolver.ReadFrame(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch f.Op {
		case resolver.OpConfigure:
			var req resolver.ConfigureRequest
			if err := json.Unmarshal(f.Meta, &req); err != nil {
				return err
			}
			front, body, err := configure(context.Background(), &req, f.Body)
			s.reply(f, front, body, 0, err)
		case resolver.OpInit:
			s.init(f.Meta, f.Body)
		case resolver.OpAdopt:
			s.adopt(f.Body)
		default:
			go s.handle(f)
		}
	}
}

type server struct {
	mu  sync.Mutex
	out io.Writer

	key     []byte
	path    *resolve.Path
	keyring *kms.Keyring
	sealer  sealer
	failed  error // why no request can be answered; nil: path is ready

	unusable error // what is wrong with the Fernet key
}

func (s *server) init(key, blob []byte) {
	s.key = key
	if err := harden.CheckRights(); err != nil {
		s.failed = conn.Errorf(conn.Failed, "",
			"the resolver was not started as connfs does it: %v", err)
		return
	}
	settings, err := decodeSettings(blob)
	if err != nil {
		s.failed = conn.Errorf(conn.Failed, "", "the resolver cannot read its settings")
		return
	}
	if !settings.programs() {
		if err := harden.ForbidPrograms(); err != nil {
			s.failed = conn.Errorf(conn.Failed, "", "the resolver cannot be confined: %v", err)
			return
		}
	}
	trust.Set(settings.Owners)
	setLogin(settings.Path.Login)
	fernet := ""
	if settings.Path.Metastore != nil {
		fernet = settings.Path.Metastore.FernetKey
	}
	// An unusable key rejects what is encrypted, and says so; the rest still reads.
	var keys *kms.Fernet
	keys, s.unusable = kms.NewFernet(fernet)
	keyring, err := kms.NewKeyring(settings.KMS, settings.KMSConnections...)
	if err != nil {
		s.failed = &conn.Error{Kind: conn.Failed, Reason: err.Error(), Err: err}
		return
	}
	path, err := all.Open(&settings.Path, keys, unsealer{keyring})
	if err != nil {
		// all.Open never puts a secret into its errors.
		s.failed = &conn.Error{Kind: conn.Failed, Reason: err.Error(), Err: err}
		return
	}
	s.path, s.keyring, s.failed = path, keyring, nil
	s.sealer = sealer{path: path, kms: kms.NewSealer(keyring, s.find)}
	if fernet != "" {
		s.sealer.fernet = keys
	}
}

// handle answers one request. If something goes wrong the answer says so.
func (s *server) handle(f *resolver.Frame) {
	if s.failed != nil {
		s.reply(f, nil, nil, 0, s.failed)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(f.Timeout, time.Millisecond))
	defer cancel()
	switch f.Op {
	case resolver.OpReady:
		s.reply(f, resolver.EncodeState(harden.StateOf()), nil, 0, nil)
	case resolver.OpGet:
		s.get(ctx, f)
	case resolver.OpExplain:
		s.reply(f, resolver.EncodeAnswers(s.explain(ctx, string(f.Body))), nil, 0, nil)
	case resolver.OpList:
		l, err := s.path.List(ctx)
		if err != nil {
			s.reply(f, nil, nil, 0, err)
			return
		}
		meta, body := resolver.EncodeListing(&resolver.Listing{
			IDs: l.IDs, Complete: l.Complete, Failed: failures(l.Failures), Calls: l.Calls,
		})
		s.reply(f, meta, body, 0, nil)
	case resolver.OpDAGs:
		body, err := s.dags(ctx, f.Body)
		s.reply(f, nil, body, 0, err)
	case resolver.OpCheck:
		s.reply(f, resolver.EncodeChecks(s.check(ctx)), nil, 0, nil)
	case resolver.OpSeal:
		meta, body, digest, err := s.sealer.answer(ctx, f)
		s.reply(f, meta, body, digest, err)
	case resolver.OpIdentity:
		s.identity(f)
	case resolver.OpWarm:
		s.reply(f, nil, nil, 0, s.path.Warm(ctx))
	default:
		s.reply(f, nil, nil, 0,
			conn.Errorf(conn.Failed, "", "the resolver does not know operation %d", f.Op))
	}
}

func (s *server) get(ctx context.Context, f *resolver.Frame) {
	id := string(f.Body)
	found, err := s.path.Search(network.ForCaller(ctx, f.Caller), id)
	if err != nil {
		s.reply(f, nil, nil, 0, err)
		return
	}
	body, err := render(id, found.Connection, found.Source, conn.Format(f.Meta))
	if err != nil {
		s.reply(f, nil, nil, 0, err)
		return
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write(body)
	// Zero means "not a value" on the pipe.
	digest := max(1, binary.LittleEndian.Uint64(mac.Sum(nil)))
	s.reply(f, resolver.EncodeOrigin(id, resolver.Origin{
		Backend: found.Source, KMS: found.Seal.KMS, Key: found.Seal.Key,
	}), body, digest, nil)
}

// render returns what is served of a connection, or why it cannot be served.
func render(id string, c *conn.Connection, source string, format conn.Format) ([]byte, error) {
	body, err := conn.Render(id, c, format)
	if err != nil {
		return nil, &conn.Error{Kind: conn.KindOf(err), Source: source, Reason: reason(err)}
	}
	return body, servable(body, source)
}

// servable returns an error for a rendering that is too large.
func servable(body []byte, source string) error {
	if len(body) > resolver.MaxValue {
		return conn.Errorf(conn.TooLarge, source,
			"the connection is %d bytes long, and %d are served at most", len(body),
			resolver.MaxValue)
	}
	return nil
}

func reason(err error) string {
	var e *conn.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return "the connection cannot be rendered"
}

// answers turns the path's answers into the protocol's.
func answers(in []resolve.Answer) []resolver.Answer {
	out := make([]resolver.Answer, 0, len(in))
	for _, a := range in {
		result := "found"
		if !a.Found {
			result = a.Kind.String()
		}
		out = append(out, resolver.Answer{
			Backend: a.Name, Result: result, Kind: a.Kind, Decides: a.Decides,
			Sealed: a.Seal.Words, KMS: a.Seal.KMS, Key: a.Seal.Key,
			By: a.By, Reason: a.Reason, Hint: a.Hint, Duration: a.Duration,
		})
	}
	return out
}

func failures(in []resolve.Failure) []resolver.Answer {
	var out []resolver.Answer
	for _, f := range in {
		a := resolver.Answer{
			Backend: f.Name, Result: conn.KindOf(f.Err).String(), Kind: conn.KindOf(f.Err),
		}
		if e, ok := f.Err.(*conn.Error); ok {
			a.Reason, a.Hint = e.Reason, e.Hint
		}
		out = append(out, a)
	}
	return out
}

func (s *server) reply(f *resolver.Frame, meta, body []byte, digest uint64, err error) {
	h := resolver.Header{ID: f.ID, OK: err == nil, Digest: digest}
	if err != nil {
		h.Kind, meta = resolver.EncodeFailure(err)
		body = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// If the front is gone, the end of standard input ends this process.
	_ = resolver.WriteAnswer(s.out, h, meta, body)
}
