//go:build integration

package integration_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fernet/fernet-go"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/connfs/connfs/integration/servers"
)

// The times of the memory tests: a child is gone long before the value's time is up, so
// that the one copy in the slot can be seen alone.
const (
	memoryTTL   = 5 * time.Second
	memoryEpoch = time.Second
	// settle is how long after the TTL or the epoch nothing may be left.
	settle = 300 * time.Millisecond
)

// passwords are those of the connections m0, m1 and so on: two with a canary of their
// own, and 18 that share one, because each canary makes a scan longer.
type passwords struct {
	all    []string
	one    [2]string // canaries of m0 and m1
	others string    // canary in all others
}

func newPasswords() passwords {
	p := passwords{one: [2]string{canary(), canary()}, others: canary()}
	p.all = append(p.all, p.one[:]...)
	for i := range 18 {
		p.all = append(p.all, fmt.Sprintf("%s.%d", p.others, i))
	}
	return p
}

func (p *passwords) canaries() []string { return append(p.one[:], p.others) }

// file is the content of the file of a connection.
func (p *passwords) file(i int) string { return fileText("http", "h.example", p.all[i], "") }

// rows returns the statements that make a table connection and fill it. Every second
// password is encrypted.
func rows(t *testing.T, key *fernet.Key, passwords []string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`CREATE TABLE connection (id INTEGER NOT NULL PRIMARY KEY, conn_id VARCHAR(250) NOT NULL UNIQUE,
		conn_type VARCHAR(500) NOT NULL, description TEXT, host VARCHAR(500), schema VARCHAR(500), login TEXT, password TEXT,
		port INTEGER, is_encrypted BOOLEAN, is_extra_encrypted BOOLEAN, extra TEXT);`)
	for i, password := range passwords {
		stored := password
		if i%2 == 0 {
			token, err := fernet.EncryptAndSign([]byte(password), key)
			must(t, err)
			stored = string(token)
		}
		fmt.Fprintf(&b, "\nINSERT INTO connection (id, conn_id, conn_type, host, password, "+
			"is_encrypted, is_extra_encrypted) VALUES (%d, 'm%d', 'http', 'h.example', '%s', %t, "+
			"false);",
			i+1, i, stored, i%2 == 0)
	}
	return b.String()
}

func newKey(t *testing.T) *fernet.Key {
	t.Helper()
	var key fernet.Key
	must(t, key.Generate())
	return &key
}

// metastoreTable is a [metastore] table.
func metastoreTable(url string, key *fernet.Key) string {
	return fmt.Sprintf("[metastore]\nurl = %q\nfernet_key = %q\n", url, key.Encode())
}

// sqliteMetastore makes a metastore in airflow_home and returns its URL.
func (s *site) sqliteMetastore(statements string) string {
	s.t.Helper()
	path := filepath.Join(s.home, "airflow.db")
	s.execSQLite(statements)
	must(s.t, os.Chown(path, owner, owner))
	return "sqlite:///" + path
}

// execSQLite changes the metastore in airflow_home.
func (s *site) execSQLite(statements string) {
	s.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.home, "airflow.db"))
	must(s.t, err)
	_, err = db.Exec(statements)
	must(s.t, err, db.Close())
}

// scan is what memscan found in the daemon and its children.
type scan struct {
	processes []process
	full      int // whole copies
	parts     int // and fragments
}

type process struct {
	Target    string
	Full      int
	Fragments int
	Hits      []struct {
		Canary, Variant, Where, Addr, Before string
		Full                                 bool
	}
	Unreadable map[string]int `json:"unreadable_bytes"`
}

// scan looks for the secrets in memory and registers: texts, or bytes in the form
// hex:00ff. A child whose end falls into the
// scan cannot be read to its end, and then all is scanned again.
func (d *daemon) scan(secrets ...string) scan {
	d.t.Helper()
	args := []string{
		"-pid", strconv.Itoa(d.cmd.Process.Pid), "-tree", "-regs", "-strict", "-json", "-v",
	}
	for i, secret := range secrets {
		if !strings.HasPrefix(secret, "hex:") {
			secret = "text:" + secret
		}
		args = append(args, "-c", fmt.Sprintf("m%d=%s", i, secret))
	}
	for deadline := time.Now().Add(patience); ; {
		s, err := d.scanOnce(args)
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			d.t.Fatal(err)
		}
	}
}

func (d *daemon) scanOnce(args []string) (s scan, err error) {
	d.t.Helper()
	cmd := exec.Command(memscanBinary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return s, fmt.Errorf("memscan: %w\n%s", err, stderr.String())
	}
	for line := range bytes.Lines(out) {
		var p process
		must(d.t, json.Unmarshal(line, &p))
		if len(p.Unreadable) > 0 {
			return s, fmt.Errorf("memscan: %s: memory that cannot be read: %v", p.Target,
				p.Unreadable)
		}
		s.processes = append(s.processes, p)
		s.full += p.Full
		s.parts += p.Fragments
	}
	if len(s.processes) == 0 {
		return s, errors.New("memscan scanned no process")
	}
	return s, nil
}

// String tells where each copy is.
func (s scan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d copies and %d fragments in %d processes", s.full, s.parts, len(s.processes))
	for _, p := range s.processes {
		for _, h := range p.Hits {
			fmt.Fprintf(&b, "\n  %s: %s %s (whole: %v) in %s at %s", p.Target, h.Canary, h.Variant,
				h.Full, h.Where, h.Addr)
		}
	}
	return b.String()
}

// holdsOnlySlots has read fetch values, and waits until the tree holds the secrets n
// times, all in the front's slots. On a busy machine the time between the end of the
// child and that of the slots can pass between two scans: then it reads again.
func (d *daemon) holdsOnlySlots(read func(), n int, secrets ...string) {
	d.t.Helper()
	var s scan
	for try := 1; ; try++ {
		since := time.Now()
		read()
		for s.full != n || s.parts != 0 {
			s = d.scan(secrets...)
			if time.Since(since) > memoryTTL {
				break
			}
		}
		if s.full == n && s.parts == 0 {
			break
		}
		if try == 5 {
			d.t.Fatalf("in %d times the TTL: never just one copy of each value; at last %v", try, s)
		}
	}
	if s.processes[0].Full != n {
		d.t.Errorf("the values are not in the front: %v", s)
	}
	d.areInSlots(s.processes[0])
}

// areInSlots checks that every copy in the front lies in memory that is locked and left
// out of core dumps and of forked children.
func (d *daemon) areInSlots(p process) {
	d.t.Helper()
	for _, h := range p.Hits {
		addr, err := strconv.ParseUint(strings.TrimPrefix(h.Addr, "0x"), 16, 64)
		if err != nil {
			d.t.Errorf("%s of %s is in %s", h.Variant, h.Canary, h.Where)
			continue
		}
		flags := vmFlags(d.t, d.cmd.Process.Pid, addr)
		for _, flag := range []string{"lo", "dd", "dc"} {
			if !strings.Contains(flags, " "+flag+" ") {
				d.t.Errorf("%s at %s is in memory with the flags%sand not %s", h.Canary, h.Addr,
					flags, flag)
			}
		}
	}
}

// vmFlags returns the flags of the mapping that addr lies in, as smaps shows them.
func vmFlags(t *testing.T, pid int, addr uint64) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	must(t, err)
	inside := false
	for line := range strings.Lines(string(text)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= addr && addr < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return " " + strings.TrimSpace(flags) + " "
		}
	}
	t.Fatalf("no mapping of process %d holds %#x", pid, addr)
	return ""
}

// holdsNothing checks that no trace of the secrets is left when the time of all values that
// were read until now is up.
func (d *daemon) holdsNothing(when string, secrets ...string) {
	d.t.Helper()
	time.Sleep(max(memoryTTL, memoryEpoch) + settle)
	if s := d.scan(secrets...); s.full != 0 || s.parts != 0 {
		d.t.Errorf("%s: %v", when, s)
	}
}

// saysNothing checks that no secret is in the log or the audit.
func (d *daemon) saysNothing(secrets ...string) {
	d.t.Helper()
	audit, err := os.ReadFile(d.audit)
	must(d.t, err)
	for _, secret := range secrets {
		if strings.Contains(d.log(), secret) || bytes.Contains(audit, []byte(secret)) {
			d.t.Error("a secret is in the log or the audit")
		}
	}
}

// variables returns AIRFLOW_CONN_* variables with these passwords.
func variables(passwords []string) []string {
	var lines []string
	for i, password := range passwords {
		lines = append(
			lines,
			fmt.Sprintf("AIRFLOW_CONN_M%d=%s", i,
				strings.TrimSpace(fileText("http", "h.example", password, ""))),
		)
	}
	return lines
}

func TestMemoryHoldsAValueForItsTimeOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		churn time.Duration
		// alone is how many of the first two connections, the encrypted and the other
		// one, a child can read without having the others in its memory, too: it parses
		// an environment file as a whole, and reads SQLite's in pages of several rows.
		alone int
		// start puts the passwords into a backend. It returns the daemon's tables and
		// variables for it.
		start func(t *testing.T, s *site, passwords []string) (tables string, env []string)
	}{
		{"the daemon's environment", 15 * time.Second, 2,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				return "", variables(passwords)
			}},
		{"environment file", 15 * time.Second, 0,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				return s.environment(variables(passwords)...), nil
			}},
		{"SQLite", 15 * time.Second, 1,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				key := newKey(t)
				return metastoreTable(s.sqliteMetastore(rows(t, key, passwords)), key), nil
			}},
		{"PostgreSQL", time.Minute, 2,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				key, server := newKey(t), servers.StartPostgres(t)
				server.Exec("airflow", rows(t, key, passwords))
				return metastoreTable(server.URL("airflow", server.Password, "airflow"), key), nil
			}},
		{"MariaDB", 15 * time.Second, 2,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				key, server := newKey(t), servers.StartMariaDB(t)
				server.Exec("airflow",
					strings.ReplaceAll(rows(t, key, passwords), " schema ", " `schema` "))
				return metastoreTable(server.URL("airflow", server.Password, "airflow"), key), nil
			}},
		{"Vault", 15 * time.Second, 2,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				return vault(t).fill(passwords), nil
			}},
		{"Parameter Store", 15 * time.Second, 2,
			func(t *testing.T, s *site, passwords []string) (string, []string) {
				return parameterStore(t).fill(passwords), nil
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, p := newSite(t), newPasswords()
			tables, env := c.start(t, s, p.all)
			s.configure(
				fmt.Sprintf("ttl = %q\nepoch = %q\ntimeout = \"20s\"", memoryTTL, memoryEpoch),
				tables+grant(alice, "*"),
			)
			d, a := s.serve(env...), as(t, alice)
			defer d.saysNothing(p.canaries()...)
			var paths []string
			for i := range p.all {
				paths = append(paths, d.file(fmt.Sprint("m", i)))
			}

			if found := d.scan(p.canaries()...); found.full != 0 || found.parts != 0 {
				t.Errorf("before the first read: %v", found)
			}
			// One encrypted connection, and then one that is not.
			for i := range 2 {
				d.holdsOnlySlots(func() { a.reads(paths[i], p.file(i)) }, 1, p.one[i])
				d.holdsNothing("after one read", p.one[i])
			}
			// All of them.
			d.holdsOnlySlots(func() {
				for i := range p.all {
					a.reads(paths[i], p.file(i))
				}
			}, len(p.all), p.canaries()...)
			d.holdsNothing("after 20 reads", p.canaries()...)

			// Two are read once, while the others are read all the time.
			for i := range 2 {
				a.reads(paths[i], p.file(i))
			}
			once := time.Now()
			a.send(request{Op: "churn", Paths: paths[2:], N: 8, For: c.churn})
			time.Sleep(time.Until(once.Add(max(memoryTTL, memoryEpoch) + settle)))
			if c.alone > 0 {
				if found := d.scan(p.one[:c.alone]...); found.full != 0 || found.parts != 0 {
					t.Errorf("of what was read once, while others are read: %v", found)
				}
			}
			counts := a.receive(c.churn + patience).Counts
			d.holdsNothing("after parallel reads", p.canaries()...)
			reads := 0
			for i := range p.all[2:] {
				key := digest([]byte(p.file(i + 2)))
				if counts[key] == 0 {
					t.Error("one connection was never read")
				}
				reads += counts[key]
				delete(counts, key)
			}
			if len(counts) > 0 || reads < 100 {
				t.Errorf("%d good reads, and these others: %v", reads, counts)
			}
			t.Logf("%d reads in %v", reads, c.churn)

			a.reads(paths[0], p.file(0))
			d.reload("connfs: reloaded\n")
			a.reads(paths[0], p.file(0))
			d.holdsNothing("after a reload", p.canaries()...)
		})
	}
}
