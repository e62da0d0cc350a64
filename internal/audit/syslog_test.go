package audit_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/audit"
)

// listenSyslog plays the syslog daemon at path.
func listenSyslog(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestSyslogGetsOneDatagramALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon := listenSyslog(t, path)
	w, err := audit.OpenSyslog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l := audit.NewLog(w, audit.Config{})
	defer l.Close()
	form := regexp.MustCompile(
		`^<86>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d connfs\[\d+\]: (\{.*\})$`,
	)
	for _, id := range []string{"one", "two\n<0>forged"} {
		if err := l.Write(granted(id), soon()); err != nil {
			t.Fatal(err)
		}
		datagram := receive(t, daemon)
		m := form.FindStringSubmatch(datagram)
		if m == nil {
			t.Fatalf("datagram %q", datagram)
		}
		var out sink
		out.Write([]byte(m[1]))
		if diff := cmp.Diff(
			[]line{{UID: 1001, ID: id, Allowed: true, Count: 1}}, out.take(t),
		); diff != "" {
			t.Errorf("line (-want +got):\n%s", diff)
		}
	}

	// After a restart of the syslog daemon no line is lost.
	daemon.Close()
	os.Remove(path)
	if err := l.Write(granted("nobody listens"), soon()); err == nil {
		t.Error("no error while nobody listens")
	}
	daemon = listenSyslog(t, path)
	if err := l.Write(granted("three"), soon()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"op":"lost"`, `"id":"three"`} {
		if got := receive(t, daemon); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("after the restart: %q, want %s", got, want)
		}
	}
}

func TestNoSyslogIsAnErrorAtTheStart(t *testing.T) {
	if _, err := audit.OpenSyslog(filepath.Join(t.TempDir(), "log")); err == nil {
		t.Error("opened")
	}
}
