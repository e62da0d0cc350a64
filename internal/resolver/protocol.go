// Package resolver is the front's end of the pipe to the resolver children, and
// the protocol that both ends speak. A child is this same binary re-executed: it
// alone knows backends, keys and the network, and it is killed an epoch after its
// first answer, because the death of a process is the one way to be sure that no
// copy of a plaintext stays in memory.
//
// The front writes frames to the child's standard input and reads answers from its
// standard output. A value goes by read(2) from the pipe into locked pages: the
// header before it says how long it is and carries a keyed digest, so that the
// front never has to look at a byte.
package resolver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/cache"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/policy"
)

// Op is what a frame asks of a child.
type Op uint8

// The operations.
const (
	// OpConfigure: read the configuration. Meta is a [ConfigureRequest]; the body is
	// the environment block that connfs was started with.
	OpConfigure Op = iota + 1
	// OpInit: take the settings blob (the body) and the digest key (Meta, 32 bytes),
	// and be ready for requests. It comes once, first, and has no answer.
	OpInit
	// OpReady: answer whether the settings were taken. Meta is a [harden.State].
	OpReady
	// OpGet: resolve the id (the body) and answer with it in the format that Meta
	// names. The meta of the answer is that of [EncodeOrigin].
	OpGet
	// OpExplain: ask the backends for the id (the body) and answer with what each
	// one said, without the value.
	OpExplain
	// OpList: answer with the ids that the backends hold.
	OpList
	// OpDAGs: answer with what changed in the serialized DAGs since the revisions in
	// the body, JSON of key to revision.
	OpDAGs
	// OpWarm: connect and log in, so that the next request need not wait for it.
	OpWarm
	// OpIdentity: answer with the logins of this child, for the next one. The body is
	// opaque and has a digest, so that it goes into locked memory like a value.
	OpIdentity
	// OpAdopt: take the logins of a predecessor (the body). It has no answer.
	OpAdopt
	// OpCheck: try the credentials and permissions of every backend and KMS, and answer
	// with the result of each call.
	OpCheck
	// OpSeal: seal, unseal or reseal a connection, or list those for which this can be done.
	// Meta is a [SealRequest]; the body is the value if it is not in the metastore. The
	// answer is a [SealAnswer], with the new value as its body, which has a digest.
	OpSeal
)

// ConfigureRequest is the question of OpConfigure: what the command line said.
type ConfigureRequest struct {
	ConfigFile     string // config.toml; empty: there is no such file
	ConfigExplicit bool   // somebody asked for it, so it must be there
	AirflowHome    string
	Mountpoint     string // absolute
	NeedMount      bool
	Service        bool // a service manager started connfs
	EUID           int
	// Show asks for the effective settings as text ("text") or as JSON lines
	// ("json") in the body, instead of the blob.
	Show        string
	ShowSecrets bool
}

// Sources of errors that OpConfigure can have.
const (
	// SourceConfiguration: the configuration is wrong.
	SourceConfiguration = "configuration"
	// SourceCapabilities: the child must not go on with its capabilities, and cannot drop
	// them. Started without them, it can read the configuration.
	SourceCapabilities = "capabilities"
)

// Limits of a frame, in bytes. A greater length means that the other end is broken.
const (
	maxMeta = 16 << 20
	maxBody = 64 << 20
)

// Frame is one message to a child.
type Frame struct {
	Op      Op
	ID      uint64        // of the request; its answer carries the same
	Timeout time.Duration // how long the child may take; whole milliseconds
	// Caller is who pays for what the request costs: a number that means nothing to the
	// child, and is the same for all requests of one caller.
	Caller uint32
	Meta   []byte
	Body   []byte
	// Parts are the body if it lies in several pieces of locked memory. Only WriteFrame
	// looks at them.
	Parts [][]byte
}

const frameHeader = 1 + 8 + 4 + 4 + 4 + 4

// WriteFrame writes f. The body may lie in locked memory, so it is not copied: it is
// written by itself, after all the rest.
func WriteFrame(w io.Writer, f *Frame) error {
	parts, size := f.Parts, 0
	if parts == nil && len(f.Body) > 0 {
		parts = [][]byte{f.Body}
	}
	for _, part := range parts {
		size += len(part)
	}
	b := make([]byte, frameHeader, frameHeader+len(f.Meta))
	b[0] = byte(f.Op)
	binary.LittleEndian.PutUint64(b[1:], f.ID)
	binary.LittleEndian.PutUint32(b[9:], uint32(f.Timeout.Milliseconds()))
	binary.LittleEndian.PutUint32(b[13:], uint32(len(f.Meta)))
	binary.LittleEndian.PutUint32(b[17:], uint32(size))
	binary.LittleEndian.PutUint32(b[21:], f.Caller)
	if _, err := w.Write(append(b, f.Meta...)); err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// ReadFrame reads one frame. It returns io.EOF if the other end has closed the pipe.
func ReadFrame(r io.Reader) (*Frame, error) {
	var b [frameHeader]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	f := &Frame{
		Op:      Op(b[0]),
		ID:      binary.LittleEndian.Uint64(b[1:]),
		Timeout: time.Duration(binary.LittleEndian.Uint32(b[9:])) * time.Millisecond,
		Caller:  binary.LittleEndian.Uint32(b[21:]),
	}
	var err error
	if f.Meta, err = readPart(r, binary.LittleEndian.Uint32(b[13:]), maxMeta); err != nil {
		return nil, err
	}
	f.Body, err = readPart(r, binary.LittleEndian.Uint32(b[17:]), maxBody)
	return f, err
}

// readPart reads n bytes. It allocates memory only as the bytes arrive.
func readPart(r io.Reader, n, limit uint32) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if n > limit {
		return nil, fmt.Errorf("a part of %d bytes in the resolver protocol: over %d", n, limit)
	}
	const chunk = 1 << 16
	b := make([]byte, 0, min(n, chunk))
	for uint32(len(b)) < n {
		at := len(b)
		b = append(b, make([]byte, min(int(n)-at, chunk))...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, unexpected(err)
		}
	}
	return b, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Header announces an answer. The meta bytes follow it, and then the body.
type Header struct {
	ID     uint64
	OK     bool
	Kind   conn.Kind // the kind of the failure, unless OK
	Digest uint64    // keyed, of a body that is secret; 0: the body is not secret
	Meta   uint32    // length: of clear text (OpGet: an [Origin]), or of a failure
	Body   uint32    // length
	// Written is when the child had the answer, by boottime.Elapsed: it may lie in the pipe for
	// longer than a value may be kept. WriteAnswer fills it in.
	Written time.Duration
}

const answerHeader = 8 + 1 + 1 + 8 + 4 + 4 + 8

// WriteAnswer writes an answer with its meta and body.
func WriteAnswer(w io.Writer, h Header, meta, body []byte) error {
	b := make([]byte, answerHeader, answerHeader+len(meta))
	binary.LittleEndian.PutUint64(b[0:], h.ID)
	if h.OK {
		b[8] = 1
	}
	b[9] = byte(h.Kind)
	binary.LittleEndian.PutUint64(b[10:], h.Digest)
	binary.LittleEndian.PutUint32(b[18:], uint32(len(meta)))
	binary.LittleEndian.PutUint32(b[22:], uint32(len(body)))
	binary.LittleEndian.PutUint64(b[26:], uint64(boottime.Elapsed()))
	if _, err := w.Write(append(b, meta...)); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	_, err := w.Write(body)
	return err
}

// ReadHeader reads the header of an answer and its meta. The caller reads the body, since it
// knows where the body may go.
func ReadHeader(r io.Reader) (Header, []byte, error) {
	var b [answerHeader]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, nil, err
	}
	h := Header{
		ID: binary.LittleEndian.Uint64(b[0:]), OK: b[8] == 1, Kind: conn.Kind(b[9]),
		Digest: binary.LittleEndian.Uint64(b[10:]),
		Meta:   binary.LittleEndian.Uint32(b[18:]), Body: binary.LittleEndian.Uint32(b[22:]),
		Written: time.Duration(binary.LittleEndian.Uint64(b[26:])),
	}
	if h.Body > maxBody {
		return Header{}, nil, fmt.Errorf("an answer of %d bytes in the resolver protocol: over %d",
			h.Body, maxBody)
	}
	meta, err := readPart(r, h.Meta, maxMeta)
	return h, meta, err
}

// failure is a [conn.Error] on the wire.
type failure struct {
	Source  string `json:"source,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Charged bool   `json:"charged,omitempty"`
}

// asError finds the conn.Error in err's chain.
func asError(err error) (*conn.Error, bool) {
	var e *conn.Error
	ok := errors.As(err, &e)
	return e, ok
}

// EncodeFailure returns the kind and the meta bytes for err. The text of an error that is
// not a *conn.Error might hold anything, so it does not go over the pipe.
func EncodeFailure(err error) (conn.Kind, []byte) {
	f := failure{Reason: "an unclassified error in the resolver"}
	kind := conn.KindOf(err)
	if e, ok := asError(err); ok {
		f = failure{e.Source, e.Reason, e.Hint, e.Charged}
	}
	b, _ := json.Marshal(f)
	return kind, b
}

// DecodeFailure returns the error of a header and its meta bytes.
func DecodeFailure(h Header, meta []byte) error {
	var f failure
	if json.Unmarshal(meta, &f) != nil {
		f.Reason = "the resolver's answer is not readable"
	}
	return &conn.Error{
		Kind: h.Kind, Source: f.Source, Reason: f.Reason, Hint: f.Hint, Charged: f.Charged,
	}
}

// Origin says where a value comes from.
type Origin = cache.Origin

// valueMeta is the meta of a value. An id can hold any byte, which a JSON text cannot.
type valueMeta struct {
	Origin
	ID []byte `json:"id"`
}

// EncodeOrigin returns o as the meta of an answer with the connection id.
func EncodeOrigin(id string, o Origin) []byte {
	b, _ := json.Marshal(valueMeta{o, []byte(id)})
	return b
}

// decodeOrigin is the reverse of EncodeOrigin. It fails if the answer is for another connection. A
// member that it does not know means that the child says something of the value that the front
// does not understand.
func decodeOrigin(meta []byte, id string) (Origin, error) {
	var v valueMeta
	d := json.NewDecoder(bytes.NewReader(meta))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return Origin{}, conn.Errorf(conn.Failed, "",
			"the resolver does not say where a value is from")
	}
	if string(v.ID) != id {
		return Origin{}, conn.Errorf(conn.Failed, "",
			"the resolver answered for another connection")
	}
	return v.Origin, nil
}

// Answer is what one backend said.
type Answer struct {
	Backend string    `json:"backend"`
	Result  string    `json:"result"`           // "found", or the kind of the failure
	Kind    conn.Kind `json:"kind"`             // of the failure
	Decides bool      `json:"decides"`          // the search ended with this answer
	Sealed  string    `json:"sealed,omitempty"` // by what the connection is sealed, in words
	// KMS and Key are the same as the sealed form names them: its kms_conn_id, and which key.
	// Where it does not open, nobody knows whether they are true.
	KMS string `json:"kms,omitempty"`
	Key string `json:"key,omitempty"`
	// By says who failed if it was not the backend: a KMS.
	By       string        `json:"by,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Hint     string        `json:"hint,omitempty"`
	Duration time.Duration `json:"duration_ns"`
}

// EncodeState returns a state as the meta of an answer.
func EncodeState(s harden.State) []byte {
	b, _ := json.Marshal(s)
	return b
}

// EncodeAnswers returns answers as the meta of an answer.
func EncodeAnswers(answers []Answer) []byte {
	b, _ := json.Marshal(answers)
	return b
}

func decodeAnswers(meta []byte) ([]Answer, error) {
	var answers []Answer
	if err := json.Unmarshal(meta, &answers); err != nil {
		return nil, fmt.Errorf("reading the resolver's answers: %w", err)
	}
	return answers, nil
}

// DAGRow is one row of serialized DAGs: what it says about its DAG, or that it has not
// changed.
type DAGRow struct {
	Key      string `json:"key"`
	Revision string `json:"revision"`
	ID       string `json:"id"` // dag_id
	// Unchanged: the revision is the known one, and the fields below are empty.
	Unchanged bool  `json:"unchanged,omitempty"`
	DAGs      []DAG `json:"dags,omitempty"`
	// Skipped says in sentences which parts of the row do not count, and why.
	Skipped []string `json:"skipped,omitempty"`
}

// DAG is what a row says about a DAG.
type DAG struct {
	policy.Fact
	// Connections are ids that its document mentions. They are hints, and grant nothing.
	Connections []string `json:"connections,omitempty"`
}

// Listing is what the backends hold.
type Listing struct {
	IDs      []string // sorted, each once
	Complete bool     // every backend answered
	Failed   []Answer // those that did not
	Calls    int      // of paged or metered APIs that it took
}

// EncodeListing returns l as meta and body. A NUL ends each id, which can hold every other
// byte.
func EncodeListing(l *Listing) (meta, body []byte) {
	for _, id := range l.IDs {
		body = append(append(body, id...), 0)
	}
	meta, _ = json.Marshal(struct {
		Complete bool
		Failed   []Answer
		Calls    int
	}{l.Complete, l.Failed, l.Calls})
	return meta, body
}

// DecodeListing is the reverse of EncodeListing.
func DecodeListing(meta, body []byte) (*Listing, error) {
	l := &Listing{}
	if err := json.Unmarshal(meta, &struct {
		Complete *bool
		Failed   *[]Answer
		Calls    *int
	}{&l.Complete, &l.Failed, &l.Calls}); err != nil {
		return nil, fmt.Errorf("reading the resolver's listing: %w", err)
	}
	text := string(body)
	for start, i := 0, 0; i < len(text); i++ {
		if text[i] == 0 {
			l.IDs = append(l.IDs, text[start:i])
			start = i + 1
		}
	}
	return l, nil
}
