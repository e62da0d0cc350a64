package servers

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TCPFaultProxy forwards bytes to a server, and can do so badly. Unlike [FaultProxy] it
// knows nothing of what they mean, and so serves for gRPC too.
type TCPFaultProxy struct {
	URL string // http://127.0.0.1:PORT

	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	fault  TCPFault
	pairs  map[*tcpPair]bool
	closed bool
}

// TCPFault is something that goes wrong with connections, those that are open too. With the
// zero value nothing goes wrong.
type TCPFault struct {
	// Latency passes before each piece of an answer is sent on.
	Latency time.Duration
	// Hole lets nothing through either way, and connections are accepted.
	Hole bool
	// Reset breaks every connection off with a TCP reset.
	Reset bool
	// Cut, where not 0, breaks a connection off after so many bytes of answers.
	Cut int
	// Drip, where not 0, passes before each byte of an answer.
	Drip time.Duration
}

// tcpPair is a connection of a client's, and the one to the server.
type tcpPair struct {
	client, server net.Conn
	closed         chan struct{}
	once           sync.Once
}

// close breaks both connections off, the client's with a reset.
func (p *tcpPair) close() {
	p.once.Do(func() {
		close(p.closed)
		if tcp, ok := p.client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		p.client.Close()
		p.server.Close()
	})
}

// wait returns whether d passed before the connection was closed.
func (p *tcpPair) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.closed:
		return false
	}
}

// StartTCPFaultProxy starts a proxy in front of the server at target, http://HOST:PORT;
// t stops it.
func StartTCPFaultProxy(t testing.TB, target string) *TCPFaultProxy {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &TCPFaultProxy{
		URL: "http://" + l.Addr().String(), target: strings.TrimPrefix(target, "http://"),
		listener: l, pairs: make(map[*tcpPair]bool),
	}
	p.work.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Close breaks all connections off and waits for the proxy's goroutines.
func (p *TCPFaultProxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.breakOff()
	p.work.Wait()
}

// Inject makes connections go wrong from now on; [TCPFault] of zero heals them. What a
// black hole swallowed is lost, as are the connections that were reset or cut.
func (p *TCPFaultProxy) Inject(f TCPFault) {
	p.mu.Lock()
	p.fault = f
	p.mu.Unlock()
	if f.Reset {
		p.breakOff()
	}
}

func (p *TCPFaultProxy) breakOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pair := range p.pairs {
		pair.close()
	}
}

func (p *TCPFaultProxy) now() TCPFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *TCPFaultProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		pair := &tcpPair{client: client, server: server, closed: make(chan struct{})}
		p.mu.Lock()
		refused := p.fault.Reset || p.closed
		if !refused {
			p.pairs[pair] = true
		}
		p.mu.Unlock()
		if refused {
			pair.close()
			continue
		}
		p.work.Go(func() { p.requests(pair) })
		p.work.Go(func() { p.answers(pair) })
	}
}

func (p *TCPFaultProxy) requests(pair *tcpPair) {
	defer pair.close()
	piece := make([]byte, 4096)
	for {
		n, err := pair.client.Read(piece)
		if err != nil {
			return
		}
		if p.now().Hole {
			continue
		}
		if _, err := pair.server.Write(piece[:n]); err != nil {
			return
		}
	}
}

func (p *TCPFaultProxy) answers(pair *tcpPair) {
	defer func() {
		pair.close()
		p.mu.Lock()
		delete(p.pairs, pair)
		p.mu.Unlock()
	}()
	piece := make([]byte, 4096)
	sent := 0 // since a cut was asked for
	for {
		n, err := pair.server.Read(piece)
		if err != nil {
			return
		}
		f := p.now()
		if f.Hole {
			continue
		}
		if f.Latency > 0 && !pair.wait(f.Latency) {
			return
		}
		answer, cut := piece[:n], false
		if f.Cut > 0 && sent+n >= f.Cut {
			answer, cut = answer[:max(0, f.Cut-sent)], true
		}
		if f.Cut > 0 {
			sent += len(answer)
		} else {
			sent = 0
		}
		step := len(answer)
		if f.Drip > 0 {
			step = 1
		}
		for len(answer) > 0 {
			step = min(step, len(answer))
			if f.Drip > 0 && !pair.wait(f.Drip) {
				return
			}
			if _, err := pair.client.Write(answer[:step]); err != nil {
				return
			}
			answer = answer[step:]
		}
		if cut {
			return
		}
	}
}
