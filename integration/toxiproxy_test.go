//go:build integration

package integration_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// proxy stands between connfs and a server, and can be slow or broken.
type proxy struct {
	t      *testing.T
	api    string
	port   int
	broken net.Listener // in its place, while it breaks connections off
}

// startProxy starts a proxy in front of a loopback port, which t stops.
func startProxy(t *testing.T, port int) *proxy {
	t.Helper()
	program := filepath.Join(cmp.Or(os.Getenv("CONNFS_TEST_CACHE"), "/opt/connfs-test"),
		"bin/toxiproxy")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run scripts/setup tools", err)
	}
	p := &proxy{t: t, port: freePort(t)}
	api := freePort(t)
	p.api = fmt.Sprintf("http://127.0.0.1:%d", api)
	cmd := exec.Command(program, "-host", "127.0.0.1", "-port", strconv.Itoa(api))
	cmd.SysProcAttr = credential(owner)
	cmd.Dir, cmd.Env = "/", []string{}
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	eventually(t, "toxiproxy answers", func() bool {
		answer, err := http.Get(p.api + "/version")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil
	})
	p.call("POST", "/proxies", map[string]any{
		"name": "server", "listen": fmt.Sprintf("127.0.0.1:%d", p.port),
		"upstream": fmt.Sprintf("127.0.0.1:%d", port), "enabled": true,
	})
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (p *proxy) call(method, path string, body any) {
	p.t.Helper()
	text, err := json.Marshal(body)
	must(p.t, err)
	q, err := http.NewRequest(method, p.api+path, bytes.NewReader(text))
	must(p.t, err)
	q.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(q)
	must(p.t, err)
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		var body bytes.Buffer
		body.ReadFrom(answer.Body)
		p.t.Fatalf("toxiproxy: %s %s: %s %s", method, path, answer.Status, body.String())
	}
}

// url returns a server's URL with the proxy's port in place of its own.
func (p *proxy) url(server string) string {
	return regexp.MustCompile(`@localhost:\d+/`).ReplaceAllLiteralString(server,
		fmt.Sprintf("@localhost:%d/", p.port))
}

// add disturbs the answers of the server.
func (p *proxy) add(kind string, attributes map[string]any) {
	p.t.Helper()
	p.call("POST", "/proxies/server/toxics", map[string]any{
		"name": kind, "type": kind, "stream": "downstream", "attributes": attributes,
	})
}

// slow delays every answer.
func (p *proxy) slow(d time.Duration) {
	p.t.Helper()
	p.add("latency", map[string]any{"latency": d.Milliseconds()})
}

// swallow lets no answer through, and leaves connections open.
func (p *proxy) swallow() { p.t.Helper(); p.add("timeout", map[string]any{"timeout": 0}) }

// reset breaks off every connection. Toxiproxy's own way of doing so sometimes left one
// open.
func (p *proxy) reset() {
	p.t.Helper()
	p.refuse()
	eventually(p.t, "the proxy's port is free", func() (free bool) {
		var err error
		p.broken, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		return err == nil
	})
	go func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}(p.broken)
}

// refuse stops listening.
func (p *proxy) refuse() {
	p.t.Helper()
	p.call("POST", "/proxies/server", map[string]any{"enabled": false})
}

// heal removes all disturbances.
func (p *proxy) heal() {
	p.t.Helper()
	if p.broken != nil {
		must(p.t, p.broken.Close())
		p.broken = nil
	}
	p.call("POST", "/reset", nil)
}

// queries counts the look-ups of a connection in a PostgreSQL server's log.
func queries(t *testing.T, dir, id string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	must(t, err)
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "WHERE c.conn_id =") && strings.Contains(line, "'"+id+"'") {
			n++
		}
	}
	return n
}
