package servers

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// FaultProxy is a reverse proxy in front of an HTTP server. It counts calls, and can
// answer in the server's place, late, in part, or not at all.
type FaultProxy struct {
	URL string // http://127.0.0.1:PORT

	t         testing.TB
	target    *url.URL
	transport *http.Transport

	mu     sync.Mutex
	server *http.Server // nil while down
	faults []*Fault
	calls  map[string]int
}

// Fault is something that goes wrong with calls. With the zero value nothing does.
type Fault struct {
	// Call is what goes wrong, as [FaultProxy.Calls] names it; with a final "*" all
	// that begin so. Empty: every call.
	Call string
	// Times is how often it goes wrong. 0: until [FaultProxy.Heal].
	Times int

	// Delay passes before anything else happens.
	Delay time.Duration
	// Hang gives no answer for as long as the client waits.
	Hang bool
	// Reset breaks the connection off at once, with a TCP reset.
	Reset bool
	// Status, where not 0, is answered with Body in the server's place.
	Status int
	Body   string
	// Cut, where not 0, breaks the connection off after so many bytes of the body.
	Cut int
	// Drip, where not 0, passes before each byte of the body.
	Drip time.Duration
}

// Throttled is what AWS answers to a client that asks too often.
func Throttled() Fault {
	return Fault{
		Status: http.StatusBadRequest,
		Body:   `{"__type":"ThrottlingException","message":"Rate exceeded"}`,
	}
}

// StartFaultProxy starts a proxy in front of the server at target, a URL without a
// path; t stops it.
func StartFaultProxy(t testing.TB, target string) *FaultProxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &FaultProxy{t: t, target: u, transport: &http.Transport{}, calls: make(map[string]int)}
	p.URL = fmt.Sprintf("http://%s:%d", loopback, freePort(t))
	p.Up()
	t.Cleanup(p.Down)
	return p
}

// Up listens again after [FaultProxy.Down], on the same port.
func (p *FaultProxy) Up() {
	p.t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	server := &http.Server{Handler: p}
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// Down breaks all connections off and refuses new ones.
func (p *FaultProxy) Down() {
	p.mu.Lock()
	server := p.server
	p.server = nil
	p.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
	p.transport.CloseIdleConnections()
}

// Inject makes calls go wrong from now on. If several faults match a call, the oldest
// counts.
func (p *FaultProxy) Inject(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// Heal removes all faults.
func (p *FaultProxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Calls returns how often each call came since the last time it was asked: by
// X-Amz-Target ("AmazonSSM.GetParameter"), by the Action of a form ("AssumeRole"), or
// by method and path ("GET /v1/sys/health").
func (p *FaultProxy) Calls() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(p.calls)
	clear(p.calls)
	return all
}

// ServeHTTP implements http.Handler.
func (p *FaultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f := p.count(callName(r, body))
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f.Hang:
		<-r.Context().Done()
	case f.Reset:
		breakOff(w, nil)
	case f.Status != 0:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body)
	default:
		p.forward(w, r, body, f)
	}
}

// count notes a call and returns what goes wrong with it.
func (p *FaultProxy) count(call string) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[call]++
	for i, f := range p.faults {
		prefix, isPrefix := strings.CutSuffix(f.Call, "*")
		if f.Call != "" && f.Call != call && !(isPrefix && strings.HasPrefix(call, prefix)) {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				p.faults = append(p.faults[:i:i], p.faults[i+1:]...)
			}
		}
		return *f
	}
	return Fault{}
}

func callName(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
			return form.Get("Action")
		}
	}
	return r.Method + " " + r.URL.EscapedPath()
}

// forward passes a call on and its answer back. The host stays the client's, which
// signatures cover.
func (p *FaultProxy) forward(w http.ResponseWriter, r *http.Request, body []byte, f Fault) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = p.target.Scheme, p.target.Host, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), answer.Header)
	// The server's connection is not the client's.
	w.Header().Del("Connection")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(answer.StatusCode)
	switch {
	case f.Cut > 0:
		breakOff(w, text[:min(f.Cut, len(text))])
	case f.Drip > 0:
		for i := range text {
			select {
			case <-time.After(f.Drip):
			case <-r.Context().Done():
				return
			}
			_, _ = w.Write(text[i : i+1])
			_ = http.NewResponseController(w).Flush()
		}
	default:
		_, _ = w.Write(text)
	}
}

// breakOff sends the beginning of a body and breaks the connection off: with a reset
// where there is nothing to send.
func breakOff(w http.ResponseWriter, text []byte) {
	control := http.NewResponseController(w)
	if text != nil {
		_, _ = w.Write(text)
		_ = control.Flush()
		panic(http.ErrAbortHandler)
	}
	c, _, err := control.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}
