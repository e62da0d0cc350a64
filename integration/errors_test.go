//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connfs/connfs/integration/servers"
)

// readTimeout is the deadline of a read in these tests.
const readTimeout = 2 * time.Second

// failsInTime checks the errno of a read, and that it came within the deadline and a
// second.
func (r *reader) failsInTime(path, errno string) {
	r.t.Helper()
	if got := r.fails(path, errno); got.Elapsed > readTimeout+time.Second {
		r.t.Errorf("%s came after %v, and the deadline is %v", errno, got.Elapsed, readTimeout)
	}
}

// recovers waits until a file can be read again.
func (r *reader) recovers(path, want string) {
	r.t.Helper()
	eventually(r.t, path+" can be read again", func() bool {
		got := r.read(path)
		return got.failure() == "" && string(got.Data) == want
	})
}

func TestErrnoOfWhatIsStored(t *testing.T) {
	t.Parallel()
	s, key := newSite(t), newKey(t)
	password := canary()
	url := s.sqliteMetastore(rows(t, key, []string{
		password, password, password, password, password, password, password,
	}))
	token := "gAAAAABhsdfk"
	s.execSQLite(`
		UPDATE connection SET password = '` + token + `' WHERE conn_id = 'm0';
		UPDATE connection SET port = 'no number' WHERE conn_id = 'm1';
		UPDATE connection SET extra = CAST(x'ff00fe' AS TEXT) WHERE conn_id = 'm2';
		UPDATE connection SET conn_type = 'http', extra = '` + filler(1<<20) + `' WHERE conn_id = 'm3';
		UPDATE connection SET is_encrypted = 1 WHERE conn_id = 'm5'`)
	var variables []string
	for id, value := range map[string]string{
		"port_text": "http://h:port/", "half_json": `{"conn_type": "http"`,
		"bad_port": `{"conn_type": "http", "port": "x"}`,
		"big":      strings.TrimSpace(fileText("http", "h", "", `{"k": "`+filler(1<<20)+`"}`)),
		"nothing":  "",
	} {
		variables = append(variables, "AIRFLOW_CONN_"+strings.ToUpper(id)+"="+value)
	}
	s.configure(
		fmt.Sprintf("timeout = %q\nnegative_ttl = \"0s\"\nttl = \"200ms\"\nepoch = \"2s\"",
			readTimeout),
		metastoreTable(url, key)+s.environment(variables...)+grant(alice, "*"),
	)
	d, a := s.serve(), as(t, alice)
	for id, errno := range map[string]string{
		"m0":        "EKEYREJECTED", // no token
		"m1":        "EBADMSG",      // a port that is not a number
		"m2":        "EBADMSG",      // bytes that are no UTF-8
		"m3":        "EFBIG",
		"m5":        "EKEYREJECTED", // flagged as encrypted, and not
		"m9":        "ENOENT",
		"port_text": "EBADMSG", "half_json": "EBADMSG", "bad_port": "EBADMSG", "big": "EFBIG",
		"nothing": "ENOENT",
	} {
		a.failsInTime(d.file(id), errno)
	}
	a.reads(d.file("m4"), fileText("http", "h.example", password, ""))
	if strings.Contains(d.log(), password) || strings.Contains(d.log(), token) {
		t.Error("the log quotes what is stored")
	}
	// Each failure is one line that says why.
	for _, id := range []string{"m0", "m1", "m2", "m3", "m5", "port_text", "half_json", "big"} {
		if !strings.Contains(d.log(), "not served id="+id+" ") {
			t.Errorf("the log does not say why %s was not served", id)
		}
		if len(d.auditLines(`"id":"`+id+`"`, `"allowed":true`, `"errno":"E`)) == 0 {
			t.Errorf("the audit has no line for %s", id)
		}
	}
}

func TestErrnoOfTheWrongKey(t *testing.T) {
	t.Parallel()
	s, key := newSite(t), newKey(t)
	url := s.sqliteMetastore(rows(t, key, []string{"made-up-0", "made-up-1"}))
	for _, wrong := range []string{newKey(t).Encode(), "no-key-at-all", ""} {
		s.configure("",
			fmt.Sprintf("[metastore]\nurl = %q\nfernet_key = %q\n", url, wrong)+grant(alice, "*"))
		d, a := s.serve(), as(t, alice)
		a.fails(d.file("m0"), "EKEYREJECTED")
		a.reads(d.file("m1"), fileText("http", "h.example", "made-up-1", "")) // not encrypted
		if code := d.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

func TestErrnoOfSQLiteThatIsGone(t *testing.T) {
	t.Parallel()
	s, key := newSite(t), newKey(t)
	url := s.sqliteMetastore(rows(t, key, []string{"made-up-0"}))
	path, want := filepath.Join(s.home, "airflow.db"),
		fileText("http", "h.example", "made-up-0", "")
	s.configure(fmt.Sprintf("timeout = %q\nnegative_ttl = \"0s\"\nttl = \"0s\"", readTimeout),
		metastoreTable(url, key)+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	a.reads(d.file("m0"), want)
	content, err := os.ReadFile(path)
	must(t, err)

	for name, damage := range map[string]func(){
		"removed": func() { must(t, os.Remove(path)) },
		"empty":   func() { s.write("airflow.db", "") },
		"no SQLite": func() {
			s.write("airflow.db", strings.Repeat("this is no database ", 1000))
		},
		"cut off": func() { s.write("airflow.db", string(content[:len(content)/2])) },
		"scrambled": func() {
			s.write("airflow.db", string(content[:4096])+strings.Repeat("\xff", len(content)-4096))
		},
		"no table": func() { s.execSQLite("ALTER TABLE connection RENAME TO gone") },
		"no columns": func() {
			s.execSQLite("ALTER TABLE connection RENAME COLUMN conn_id TO gone")
		},
	} {
		damage()
		// a broken metastore is never "no such connection"
		for _, id := range []string{"m0", "other"} {
			if got := a.read(d.file(id)); got.failure() != "EIO" ||
				got.Elapsed > readTimeout+time.Second {
				t.Errorf("%s: %s gives %q after %v, want EIO", name, id, got.failure(), got.Elapsed)
			}
		}
		s.write("airflow.db", string(content))
		a.recovers(d.file("m0"), want)
		a.fails(d.file("other"), "ENOENT")
	}
	must(t, os.Chown(path, 0, 0), os.Chmod(path, 0o600))
	if got := a.read(d.file("m0")); got.failure() != "EACCES" && got.failure() != "EIO" {
		t.Errorf("a file that connfs may not read: %q", got.failure())
	}
	must(t, os.Chown(path, owner, owner))
	a.recovers(d.file("m0"), want)
}

func TestErrnoOfPageReads(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	a, b, root := as(t, alice), as(t, bob), as(t, 0)
	for _, op := range []string{"sendfile", "splice"} {
		if got := a.do(request{Op: op, Path: d.file("mine")}); got.Errno != "EINVAL" ||
			len(got.Data) > 0 {
			t.Errorf("%s: %q %q and %d bytes, want EINVAL", op, got.Errno, got.Other, len(got.Data))
		}
	}
	if got := a.do(
		request{Op: "mmap", Path: d.file("mine")},
	); !strings.HasPrefix(got.Other, "fault") ||
		len(got.Data) > 0 {
		t.Errorf("mmap: %q %q and %d bytes, want a fault", got.Errno, got.Other, len(got.Data))
	}
	for _, r := range []*reader{b, root} {
		for _, op := range []string{"sendfile", "splice", "mmap"} {
			if got := r.do(request{Op: op, Path: d.file("mine")}); got.Errno != "EACCES" ||
				len(got.Data) > 0 {
				t.Errorf("uid %d, %s: %q and %d bytes, want EACCES", r.uid, op, got.failure(),
					len(got.Data))
			}
		}
	}
	a.reads(d.file("mine"), mine)
	if len(d.auditLines(`"op":"read"`, `"errno":"EINVAL"`)) == 0 {
		t.Error("no audit line of a page-cache read")
	}
}

func TestErrnoOfChangedContent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, other := fileText("http", "h", "one", ""), fileText("http", "h", "other", "")
	s.configure("ttl = \"300ms\"\nepoch = \"300ms\"",
		s.environment("AIRFLOW_CONN_A="+strings.TrimSpace(one))+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	path := d.file("a")
	a.do(request{Op: "open", Path: path})
	pread := func() string {
		got := a.do(request{Op: "pread", Path: path})
		return got.failure() + string(got.Data)
	}
	if got := pread(); got != one {
		t.Fatalf("read: %q", got)
	}
	s.environment("AIRFLOW_CONN_A=" + strings.TrimSpace(other))
	eventually(t, "the open descriptor is stale", func() bool {
		got := pread()
		if got != one && got != "ESTALE" {
			t.Fatalf("a read of what has changed: %q", got)
		}
		return got == "ESTALE"
	})
	a.reads(path, other) // a new open sees it
	s.environment("AIRFLOW_CONN_A=" + strings.TrimSpace(one))
	eventually(t, "the descriptor is good again", func() bool { return pread() == one })
	s.environment()
	eventually(t, "the connection is gone", func() bool { return pread() == "ENOENT" })
}

// server is a database server as the tests break it.
type server interface {
	Exec(database, sql string)
	Pause() (resume func())
	Kill()
	Stop()
	Start()
}

func TestErrnoOfServersThatFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		start func(t *testing.T) (server, int, string)
		// The statements for a user "reader" who may read nothing, and to let it.
		user, allow string
	}{
		{"PostgreSQL", func(t *testing.T) (server, int, string) {
			s := servers.StartPostgres(t)
			return s, s.Port, s.URL("reader", "made-up", "airflow")
		}, "CREATE ROLE reader LOGIN PASSWORD 'made-up'", "GRANT SELECT ON connection TO reader"},
		{"MariaDB", func(t *testing.T) (server, int, string) {
			s := servers.StartMariaDB(t)
			return s, s.Port, s.URL("reader", "made-up", "airflow")
		}, "CREATE TABLE airflow.other (id INTEGER); " +
			"CREATE USER reader@'%' IDENTIFIED BY 'made-up'; " +
			"GRANT SELECT ON airflow.other TO reader@'%'",
			"GRANT SELECT ON airflow.connection TO reader@'%'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, port, url := c.start(t)
			key := newKey(t)
			schema := map[bool]string{true: " `schema` ", false: " schema "}[c.name == "MariaDB"]
			db.Exec("airflow", strings.ReplaceAll(
				rows(t, key, []string{"made-up-0", "made-up-1"}), " schema ", schema,
			))
			db.Exec("airflow", c.user)
			p, s := startProxy(t, port), newSite(t)
			s.configure(
				fmt.Sprintf("timeout = %q\nttl = \"0s\"\nnegative_ttl = \"0s\"\nepoch = \"1s\"",
					readTimeout),
				metastoreTable(p.url(url), key)+grant(alice, "*"),
			)
			d, a := s.serve(), as(t, alice)
			path, want := d.file("m0"), fileText("http", "h.example", "made-up-0", "")

			a.failsInTime(path, "EACCES") // the server refuses connfs
			db.Exec("airflow", c.allow)
			a.recovers(path, want)
			a.fails(d.file("other"), "ENOENT")

			names := []string{"m0.json", "m1.json"}
			a.lists(d.mount, names)
			for _, f := range []struct {
				name, errno string
				damage      func()
				repair      func()
			}{
				{"slow", "ETIMEDOUT", func() { p.slow(2 * readTimeout) }, p.heal},
				{"silent", "ETIMEDOUT", p.swallow, p.heal},
				{"breaks connections off", "EIO", p.reset, p.heal},
				{"refuses connections", "EIO", p.refuse, p.heal},
				{"killed", "EIO", db.Kill, db.Start},
				{"shut down", "EIO", db.Stop, db.Start},
				// Last, because the servers lose what was written just before a crash.
				{"no table", "EIO", func() {
					db.Exec("airflow", "ALTER TABLE connection RENAME TO gone")
				}, func() { db.Exec("airflow", "ALTER TABLE gone RENAME TO connection") }},
			} {
				f.damage()
				// a metastore that is down is never "no such connection"
				for _, id := range []string{"m0", "other"} {
					got := a.read(d.file(id))
					if got.failure() != f.errno || got.Elapsed > readTimeout+time.Second {
						t.Errorf("%s: %s gives %q after %v, want %s", f.name, id, got.failure(),
							got.Elapsed.Round(time.Millisecond), f.errno)
					}
				}
				f.repair()
				a.recovers(path, want)
				// A child that logged in meanwhile may have one broken connection left.
				eventually(t, "what is not there is absent again", func() bool {
					got := a.read(d.file("other"))
					if got.failure() != "ENOENT" && got.failure() != f.errno {
						t.Fatalf("%s, and repaired: %q", f.name, got.failure())
					}
					return got.failure() == "ENOENT"
				})
			}

			// Paused: connections stay open, and nobody answers. What was listed is
			// still shown when a reader lists the directory again.
			resume := db.Pause()
			defer resume()
			eventually(t, "no connection is left that works", func() bool {
				got := a.read(path)
				if got.failure() != "" && got.failure() != "ETIMEDOUT" ||
					got.Elapsed > readTimeout+time.Second {
					t.Fatalf("from a paused server: %q after %v", got.failure(), got.Elapsed)
				}
				return got.failure() == "ETIMEDOUT"
			})
			eventually(t, "the listing is asked for anew", func() bool {
				got := a.do(request{Op: "list", Path: d.mount})
				slices.Sort(got.Names)
				if got.failure() != "" || !slices.Equal(got.Names, names) ||
					got.Elapsed > readTimeout+time.Second {
					t.Fatalf("a listing while the metastore is down: %q %q after %v", got.failure(),
						got.Names, got.Elapsed)
				}
				return strings.Contains(d.log(), "does not list its connections backend=metastore")
			})
			// unknown is not absent
			for name, errno := range map[string]string{"m0": "", "other": ""} {
				if got := a.do(request{Op: "stat", Path: d.file(name)}); got.failure() != errno {
					t.Errorf("stat of %s while the metastore is down: %q", name, got.failure())
				}
			}
			resume()
			a.recovers(path, want)
			if strings.Contains(d.log(), "made-up") {
				t.Error("the log has a password")
			}
		})
	}
}

func TestMetastoreBehindPgBouncer(t *testing.T) {
	t.Parallel()
	db, key, s := servers.StartPostgres(t), newKey(t), newSite(t)
	p := newPasswords()
	db.Exec("airflow", rows(t, key, p.all))
	bouncer := servers.StartPgBouncer(t, db, map[string]string{"airflow": db.Password})
	s.configure(fmt.Sprintf("timeout = %q\nttl = \"0s\"\nepoch = \"1s\"", readTimeout),
		metastoreTable(bouncer.URL("airflow", db.Password, "airflow"), key)+grant(alice, "*"))
	d, a := s.serve(), as(t, alice)
	for range 3 { // several children share the server's connections
		for i := range p.all {
			a.reads(d.file(fmt.Sprint("m", i)), p.file(i))
		}
		time.Sleep(500 * time.Millisecond)
	}
	want := p.file(0)
	if got := a.do(
		request{Op: "storm", Path: d.file("m0"), N: 200},
	); got.Counts[digest([]byte(want))] != 200 {
		t.Errorf("200 readers got %v", got.Counts)
	}
	db.Kill()
	got := a.read(d.file("m0"))
	if got.failure() != "EIO" && got.failure() != "ETIMEDOUT" ||
		got.Elapsed > readTimeout+time.Second {
		t.Errorf("with the server behind it down: %q after %v", got.failure(), got.Elapsed)
	}
	db.Start()
	a.recovers(d.file("m0"), want)
}
