package resolver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/harden"
	"github.com/connfs/connfs/internal/resolver"
)

// TestMain is the test binary's second role: a child that speaks the protocol and
// does what its arguments and the ids that it is asked for say.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "fake-child" {
		(&fake{mode: os.Args[2], dir: os.Args[3]}).serve()
		return
	}
	os.Exit(m.Run())
}

type fake struct {
	mode, dir string
	blob, key []byte
	out       sync.Mutex

	mu    sync.Mutex
	login string // adopted, or made by the id "log in"
}

// note appends a line to the file that the test reads.
func (f *fake) note(what string) {
	file, err := os.OpenFile(filepath.Join(f.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY,
		0o600)
	if err != nil {
		os.Exit(9)
	}
	fmt.Fprintf(file, "%s %d\n", what, hostPID())
	file.Close()
}

// hostPID is the process id of this process outside of its PID namespace.
func hostPID() int {
	name, _ := os.Readlink("/proc/self")
	pid, _ := strconv.Atoi(name)
	return pid
}

func (f *fake) has(name string) bool {
	_, err := os.Stat(filepath.Join(f.dir, name))
	return err == nil
}

// first reports whether nobody has called it with this name before.
func (f *fake) first(name string) bool {
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_CREATE|os.O_EXCL, 0o600)
	file.Close()
	return err == nil
}

func (f *fake) serve() {
	f.note("start")
	if f.mode == "exit" || f.has("broken") {
		os.Exit(3)
	}
	if f.mode == "deaf" {
		deaf()
	}
	for {
		frame, err := resolver.ReadFrame(os.Stdin)
		if err != nil {
			return
		}
		switch frame.Op {
		case resolver.OpInit:
			f.key, f.blob = frame.Meta, frame.Body
		case resolver.OpGet:
			if string(frame.Body) == "deaf" {
				deaf()
			}
			go f.get(frame)
		default:
			f.other(frame)
		}
	}
}

// deaf makes the child stop reading.
func deaf() {
	for {
		time.Sleep(time.Hour)
	}
}

func (f *fake) other(frame *resolver.Frame) {
	switch frame.Op {
	case resolver.OpReady:
		switch f.mode {
		case "refuse":
			f.fail(frame, conn.Errorf(conn.Invalid, "settings", "they are not usable"))
		case "never ready":
		default:
			f.answer(frame, resolver.EncodeState(harden.StateOf()), nil, 0)
		}
	case resolver.OpWarm:
		f.note("warm")
		f.answer(frame, nil, nil, 0)
	case resolver.OpAdopt:
		f.mu.Lock()
		f.login = string(frame.Body)
		f.mu.Unlock()
		f.note("adopt")
	case resolver.OpIdentity:
		f.note("identity")
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.login == "" {
			f.answer(frame, nil, nil, 0)
			return
		}
		f.answer(frame, nil, []byte(f.login), 1)
	case resolver.OpList:
		meta, body := resolver.EncodeListing(&resolver.Listing{
			IDs: []string{"a\nb", "c", "\xff"},
			Failed: []resolver.Answer{
				{
					Backend: "metastore", Result: "unreachable", Kind: conn.Unreachable,
					Reason: "down",
				},
			},
		})
		f.answer(frame, meta, body, 0)
	case resolver.OpExplain:
		f.answer(
			frame,
			resolver.EncodeAnswers([]resolver.Answer{
				{Backend: "environment", Result: "absent", Kind: conn.Absent, Duration: 5},
				{Backend: "metastore", Result: "found", Decides: true},
			}),
			nil, 0,
		)
	case resolver.OpCheck:
		f.check(frame)
	case resolver.OpConfigure:
		f.configure(frame)
	}
}

// check says which process was asked.
func (f *fake) check(frame *resolver.Frame) {
	if f.has("check fails") {
		f.fail(frame, conn.Errorf(conn.Failed, "", "no settings"))
		return
	}
	f.answer(frame, resolver.EncodeChecks([]conn.Check{
		{Name: "fake", Call: "pid " + strconv.Itoa(hostPID())},
		{Name: "fake", Call: "fake:Get", Err: &conn.Error{
			Kind: conn.Denied, Reason: "no right", Hint: "grant it",
		}},
	}), nil, 0)
}

func (f *fake) configure(frame *resolver.Frame) {
	var req resolver.ConfigureRequest
	if err := json.Unmarshal(frame.Meta, &req); err != nil {
		os.Exit(4)
	}
	switch req.ConfigFile {
	case "hang":
		return
	case "die":
		os.Exit(5)
	case "bad":
		f.fail(frame, &conn.Error{
			Kind: conn.Invalid, Source: resolver.SourceConfiguration, Reason: "config.toml:3: no",
		})
		return
	}
	front, _ := json.Marshal(req)
	f.answer(frame, front, frame.Body, 0)
}

func (f *fake) get(frame *resolver.Frame) {
	id := string(frame.Body)
	verb, rest, _ := strings.Cut(id, ":")
	n, _ := strconv.Atoi(rest)
	switch verb {
	case "pid":
		f.value(frame, strconv.Itoa(hostPID()))
	case "size":
		f.value(frame, strings.Repeat("v", n))
	case "settings":
		f.value(frame, fmt.Sprintf("%x %x %s", f.key, f.blob, frame.Meta))
	case "timeout":
		f.value(frame, frame.Timeout.String())
	case "slow":
		time.Sleep(time.Duration(n) * time.Millisecond)
		f.value(frame, "at last")
	case "hang":
	case "hang once":
		if !f.first("hung") {
			f.value(frame, "the second time")
		}
	case "hang times":
		for i := range n {
			if f.first(fmt.Sprint("hung", i)) {
				return
			}
		}
		f.value(frame, "at last")
	case "die":
		os.Exit(6)
	case "half":
		// The end comes in the middle of a value.
		f.out.Lock()
		var b bytes.Buffer
		resolver.WriteAnswer(&b, resolver.Header{ID: frame.ID, OK: true, Digest: 7},
			fakeOrigin(id),
			make([]byte, 5000))
		os.Stdout.Write(b.Bytes()[:b.Len()-1000])
		os.Exit(7)
	case "nonsense":
		f.out.Lock()
		os.Stdout.Write(bytes.Repeat([]byte{0xff}, 100))
	case "unasked":
		f.answer(&resolver.Frame{ID: frame.ID + 1000}, nil, nil, 0)
	case "other id":
		f.answer(frame, fakeOrigin("another"), []byte("v"), 7)
	case "log in":
		// The first child that is asked logs in; its successors use the same login.
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.login == "" {
			f.login = strings.Repeat("login", 2000) + strconv.Itoa(hostPID())
			f.note("login")
		}
		f.value(frame, f.login)
	case "no value":
		f.answer(frame, fakeOrigin(id), nil, 0)
	default:
		f.fail(frame, &conn.Error{
			Kind: conn.Absent, Source: "fake", Reason: "there is none", Hint: "make one",
		})
	}
}

func (f *fake) value(frame *resolver.Frame, text string) {
	f.answer(frame, fakeOrigin(string(frame.Body)), []byte(text), digest(text))
}

func digest(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

// fakeOrigin is where the value of an id is from, whatever the id.
func fakeOrigin(id string) []byte {
	return resolver.EncodeOrigin(id, resolver.Origin{Backend: "fake", KMS: "main", Key: "k 1"})
}

func (f *fake) answer(frame *resolver.Frame, meta, body []byte, digest uint64) {
	f.out.Lock()
	defer f.out.Unlock()
	resolver.WriteAnswer(os.Stdout, resolver.Header{ID: frame.ID, OK: true, Digest: digest}, meta,
		body)
}

func (f *fake) fail(frame *resolver.Frame, err error) {
	kind, meta := resolver.EncodeFailure(err)
	f.out.Lock()
	defer f.out.Unlock()
	resolver.WriteAnswer(os.Stdout, resolver.Header{ID: frame.ID, Kind: kind}, meta, nil)
}
