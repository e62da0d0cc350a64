//go:build integration

package metastore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/metastore"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// server is what the tests of both databases need of one.
type server interface {
	URL(user, password, database string, query ...string) string
	Exec(database, sql string)
	Stop()
	Kill()
	Start()
	Pause() (resume func())
}

// kindOfServer says how the databases differ in these tests.
type kindOfServer struct {
	name           string
	start          func(t *testing.T) (s server, password string)
	createDatabase string // with the name
	// the user "reader" with the password "readerpw", who may SELECT on connection in airflow
	createReader   string
	createStranger string // the user "stranger" with the password "strangerpw", who may do nothing
	reset          string // makes the table connection anew, of 2.10's form
	insert         string
	lock           string // statements that keep the table locked until the session ends
	many           string // makes 100,000 rows
	longExtra      string // lets the column extra hold any length
}

var kindsOfServer = []kindOfServer{
	{
		name: "postgres",
		start: func(t *testing.T) (server, string) {
			s := servers.StartPostgres(t)
			return s, s.Password
		},
		createDatabase: "CREATE DATABASE %s",
		createReader: "CREATE ROLE reader LOGIN PASSWORD 'readerpw'; GRANT SELECT ON " +
			"connection TO reader",
		createStranger: "CREATE ROLE stranger LOGIN PASSWORD 'strangerpw'",
		reset: `DROP TABLE IF EXISTS connection; CREATE TABLE connection (id serial PRIMARY KEY, conn_id varchar(250) NOT NULL UNIQUE, conn_type varchar(500) NOT NULL,
			description text, host varchar(500), schema varchar(500), login text, password text, port integer, is_encrypted boolean, is_extra_encrypted boolean, extra text)`,
		insert: "INSERT INTO connection (conn_id, conn_type, description, host, schema, login, " +
			"password, port, extra) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		lock: "BEGIN; LOCK TABLE connection IN ACCESS EXCLUSIVE MODE",
		many: "INSERT INTO connection (conn_id, conn_type) SELECT 'many_' || i, 'http' FROM " +
			"generate_series(1, 100000) i",
		longExtra: "ALTER TABLE connection ALTER COLUMN extra TYPE text",
	},
	{
		name: "mariadb",
		start: func(t *testing.T) (server, string) {
			s := servers.StartMariaDB(t)
			return s, s.Password
		},
		createDatabase: "CREATE DATABASE %s CHARACTER SET utf8mb4",
		createReader: "CREATE USER reader@'%' IDENTIFIED BY 'readerpw'; GRANT SELECT ON " +
			"airflow.connection TO reader@'%'",
		createStranger: "CREATE USER stranger@'%' IDENTIFIED BY 'strangerpw'; CREATE TABLE " +
			"airflow.other (x int); GRANT SELECT ON airflow.other TO stranger@'%'",
		reset: "DROP TABLE IF EXISTS connection; CREATE TABLE connection (id int AUTO_INCREMENT " +
			"PRIMARY KEY, conn_id varchar(250) NOT NULL UNIQUE, conn_type varchar(500) NOT NULL, " +
			"description text, host varchar(500), `schema` varchar(500), login text, password " +
			"text, port int, is_encrypted tinyint(1), is_extra_encrypted tinyint(1), extra " +
			"text) COLLATE utf8mb4_general_ci",
		insert: "INSERT INTO connection (conn_id, conn_type, description, host, `schema`, login, " +
			"password, port, extra) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		lock: "LOCK TABLES connection WRITE",
		many: "INSERT INTO connection (conn_id, conn_type) SELECT CONCAT('many_', seq), 'http' " +
			"FROM seq_1_to_100000",
		longExtra: "ALTER TABLE connection MODIFY extra LONGTEXT",
	},
}

// forEach runs a test on both servers, each with an empty table in the database airflow.
func forEach(t *testing.T, test func(t *testing.T, k kindOfServer, s server, password string)) {
	t.Helper()
	for _, k := range kindsOfServer {
		t.Run(k.name, func(t *testing.T) {
			s, password := k.start(t)
			s.Exec("airflow", k.reset)
			test(t, k, s, password)
		})
	}
}

func open(t *testing.T, settings metastore.Settings) *metastore.Store {
	t.Helper()
	m, err := metastore.Open(settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// direct opens a pool of the owner, to write with.
func direct(t *testing.T, s server) *sql.DB {
	t.Helper()
	switch s := s.(type) {
	case *servers.MariaDB:
		return s.Open("airflow")
	case *servers.Postgres:
		db, err := sql.Open("pgx", fmt.Sprintf("host=127.0.0.1 port=%d user=airflow password=%s "+
			"dbname=airflow sslmode=disable default_query_exec_mode=exec", s.Port, s.Password))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	t.Fatalf("unknown server %T", s)
	return nil
}

func TestServersAnswerAsAirflow(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		for _, version := range []string{"2.10", "3.3"} {
			t.Run(version, func(t *testing.T) {
				database := "af" + strings.ReplaceAll(version, ".", "")
				s.Exec("airflow", fmt.Sprintf(k.createDatabase, database))
				script, err := os.ReadFile(filepath.Join("testdata", version, k.name+".sql"))
				if err != nil {
					t.Fatal(err)
				}
				s.Exec(database, string(script))
				e := readExpected(t, version)
				on, ok := e.Servers[k.name]
				if !ok {
					t.Fatal("no expectations for this server")
				}
				absent := make(map[string]bool)
				for _, row := range on.RowsLeftOut {
					absent[row[0]] = true
				}
				p := openPath(t, metastore.Settings{URL: s.URL("airflow", password, database),
					FernetKey: e.FernetKey})
				var ids []string
				for id, c := range e.Connections {
					if raw, ok := on.Different[id]; ok {
						var different struct{ Absent bool }
						if err := json.Unmarshal(raw, &different); err != nil ||
							!different.Absent && !absent[id] {
							t.Fatalf("unknown difference %s", raw)
						}
					}
					// A row that could not be stored, or that another id's row stands for.
					if absent[id] {
						c = expectedConnection{Absent: true}
					}
					c.check(t, p, id)
					if id != "" && !c.Absent {
						ids = append(ids, id)
					}
				}
				for id := range on.AlsoFound {
					expectedConnection{Absent: true}.check(t, p, id)
				}
				if k.name == "mariadb" && len(on.AlsoFound) == 0 {
					t.Error("the data has no ids that MariaDB also finds")
				}
				l, err := p.List(t.Context())
				slices.Sort(ids)
				if diff := cmp.Diff(ids, l.IDs); err != nil || diff != "" {
					t.Errorf("list: %v (-want +got):\n%s", err, diff)
				}
				for _, other := range e.OtherKeys {
					fernetAnswers(t, e, on.RowsLeftOut, s.URL("airflow", password, database),
						other.FernetKey, other.Different)
				}
			})
		}
	})
}

// fernetAnswers checks a database with another key.
func fernetAnswers(t *testing.T, e expected, leftOut [][2]string, url, key string,
	different map[string]json.RawMessage) {
	t.Helper()
	p := openPath(t, metastore.Settings{URL: url, FernetKey: key})
	for id, c := range e.Connections {
		if slices.ContainsFunc(leftOut, func(row [2]string) bool { return row[0] == id }) {
			continue
		}
		if raw, ok := different[id]; ok {
			c = c.changed(t, raw)
		}
		c.check(t, p, id)
	}
}

func TestServersConform(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		db := direct(t, s)
		resolvetest.Run(t, resolvetest.Harness{
			New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
				s.Exec("airflow", k.reset)
				for id, c := range connections {
					insertRow(t, db, k.insert, id, c)
				}
				return open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
			},
			Unreachable: func(t *testing.T) backend.Backend {
				dialect, _, _ := strings.Cut(s.URL("", "", ""), ":")
				return open(t,
					metastore.Settings{URL: dialect + "://airflow:hunter2@127.0.0.1:1/airflow"})
			},
		})
	})
}

// The server's answer is cut off long before the end of such a row.
func TestServersSendTheSizeAloneOfARowThatIsTooLarge(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		s.Exec("airflow", k.longExtra+";"+
			"INSERT INTO connection (conn_id, conn_type, extra) VALUES "+
			"('large', 'http', REPEAT('x', 5000000)), ('small', 'http', 'x'); "+
			"INSERT INTO connection (conn_id, conn_type, login, password, extra) SELECT 'fits', "+
			"'http', REPEAT('l', 50000), REPEAT('p', 50000), REPEAT('x', 1000000)")
		direct := s.URL("airflow", password, "airflow")
		u, err := url.Parse(direct)
		if err != nil {
			t.Fatal(err)
		}
		p := servers.StartTCPFaultProxy(t, "http://"+u.Host)
		m := open(t, metastore.Settings{
			URL: strings.Replace(direct, u.Host, strings.TrimPrefix(p.URL, "http://"), 1)})
		if _, err := m.Connection(t.Context(), "fits"); err != nil {
			t.Error(err)
		}
		p.Inject(servers.TCPFault{Cut: 256 << 10})
		for range 3 {
			_, err = m.Connection(t.Context(), "large")
			resolvetest.WantKind(t, "a row that is too large", err, conn.TooLarge)
			if _, err := m.Connection(t.Context(), "small"); err != nil {
				t.Error(err)
			}
		}
		if ids, err := m.List(t.Context()); err != nil || len(ids) != 3 {
			t.Errorf("%q: %v", ids, err)
		}
	})
}

func TestServersTryTheFernetKey(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		s.Exec("airflow", fmt.Sprintf("INSERT INTO connection (conn_id, conn_type, password, "+
			"is_encrypted) VALUES ('opens', 'http', '%s', true), ('does_not', 'http', '%s', "+
			"true), ('clear', 'http', 'x', false)",
			token(t, firstKey, "x"), token(t, secondKey, "x")))
		for key, want := range map[string]string{
			firstKey + "," + secondKey: "fernet_key opens all 2 encrypted rows",
			firstKey: "fernet_key: metastore: key rejected: 1 of 2 encrypted rows open with none " +
				"of the keys (is it this database's key? After a rotation, list the old one too)",
		} {
			keys, err := kms.NewFernet(key)
			if err != nil {
				t.Fatal(err)
			}
			m, err := metastore.Open(metastore.Settings{
				URL: s.URL("airflow", password, "airflow"), FernetKey: key}, keys)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			checks := m.Check(t.Context())
			if got := said(checks[len(checks)-1]); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
}

func TestServersRefusals(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		s.Exec("airflow", k.createReader+";"+k.createStranger)
		s.Exec("airflow", fmt.Sprintf(k.createDatabase, "vacant"))
		insertRow(t, direct(t, s), k.insert, "x", &conn.Connection{Type: new(string)})
		look := func(user, password, database string) error {
			m := open(t, metastore.Settings{URL: s.URL(user, password, database)})
			_, err := m.Connection(t.Context(), "x")
			_, listErr := m.List(t.Context())
			if (err == nil) != (listErr == nil) || conn.KindOf(err) != conn.KindOf(listErr) {
				t.Errorf("%s: look-up %v, list %v", user, err, listErr)
			}
			return err
		}
		if err := look("reader", "readerpw", "airflow"); err != nil {
			t.Errorf("SELECT on the table alone: %v", err)
		}
		resolvetest.WantKind(t, "no right to the table", look("stranger", "strangerpw", "airflow"),
			conn.Denied)
		resolvetest.WantKind(t, "wrong password", look("reader", "hunter2", "airflow"), conn.Denied)
		resolvetest.WantKind(t, "no such user", look("nobody", "hunter2", "airflow"), conn.Denied)
		resolvetest.WantKind(t, "no such database", look("airflow", password, "hunter2"),
			conn.Unreachable)
		resolvetest.WantKind(t, "no such table", look("airflow", password, "vacant"),
			conn.Unreachable)
	})
}

func TestServersTLS(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		insertRow(t, direct(t, s), k.insert, "x", &conn.Connection{Type: new(string)})
		var c servers.Certificates
		modes := map[string]bool{}
		switch s := s.(type) {
		case *servers.Postgres:
			c = s.Certificates
			modes = map[string]bool{
				"sslmode=disable": true, "sslmode=prefer": true, "sslmode=require": true, "": true,
				"sslmode=verify-ca&sslrootcert=" + c.CA:                  true,
				"sslmode=verify-full&sslrootcert=" + c.CA:                true,
				"sslmode=require&sslrootcert=" + c.OtherCA:               false,
				"sslmode=verify-ca&sslrootcert=" + c.OtherCA:             false,
				"sslmode=verify-full&sslrootcert=" + c.OtherCA:           false,
				"sslmode=verify-ca&host=127.0.0.1&sslrootcert=" + c.CA:   true,
				"sslmode=verify-full&host=127.0.0.1&sslrootcert=" + c.CA: false,
			}
		case *servers.MariaDB:
			c = s.Certificates
			modes = map[string]bool{
				"": true, "ssl_disabled=true": true, "ssl=true": true, "ssl_mode=REQUIRED": true,
				"ssl_ca=" + c.CA: true, "ssl_ca=" + c.OtherCA: false,
				"ssl_ca=" + c.OtherCA + "&ssl_check_hostname=false": false,
				"ssl_mode=VERIFY_CA&ssl_ca=" + c.CA:                 true,
				"ssl_mode=VERIFY_IDENTITY&ssl_ca=" + c.CA:           true,
				"ssl_mode=VERIFY_CA&ssl_ca=" + c.OtherCA:            false,
				"ssl_verify_cert=true":                              false,
			}
			u := strings.Replace(s.URL("airflow", password, "airflow"), "localhost", "127.0.0.1", 1)
			for query, good := range map[string]bool{"ssl_ca=" + c.CA: false,
				"ssl_check_hostname=false&ssl_ca=" + c.CA: true} {
				m := open(t, metastore.Settings{URL: u + "?" + query})
				_, err := m.Connection(t.Context(), "x")
				if good && err != nil {
					t.Errorf("%q by address: %v", query, err)
				} else if !good {
					resolvetest.WantKind(t, query+" by address", err, conn.Unreachable)
				}
			}
		}
		for query, good := range modes {
			u := s.URL("airflow", password, "airflow", strings.Split(query, "&")...)
			_, err := open(t, metastore.Settings{URL: u}).Connection(t.Context(), "x")
			if good && err != nil {
				t.Errorf("%q: %v", query, err)
			} else if !good {
				resolvetest.WantKind(t, query, err, conn.Unreachable)
			}
		}
	})
}

func TestServersRestart(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		insertRow(t, direct(t, s), k.insert, "x", &conn.Connection{Type: new(string)})
		m := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
		warm := func() {
			t.Helper()
			// Several connections at once, so that several are idle afterwards.
			errs := make(chan error)
			for range 4 {
				go func() { _, err := m.List(t.Context()); errs <- err }()
			}
			for range 4 {
				if err := <-errs; err != nil {
					t.Errorf("warm: %v", err)
				}
			}
		}
		for name, end := range map[string]func(){"stopped": s.Stop, "killed": s.Kill} {
			warm()
			end()
			_, err := m.Connection(t.Context(), "x")
			resolvetest.WantKind(t, name, err, conn.Unreachable)
			_, err = m.List(t.Context())
			resolvetest.WantKind(t, name+": list", err, conn.Unreachable)
			s.Start()
			warm()
			end()
			s.Start()
			if _, err := m.Connection(t.Context(), "x"); err != nil {
				t.Errorf("first query after being %s and started: %v", name, err)
			}
		}
	})
}

func TestServersDeadline(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		db := direct(t, s)
		insertRow(t, db, k.insert, "x", &conn.Connection{Type: new(string)})
		m := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
		cold := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
		if err := m.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		late := func(what string, m *metastore.Store) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := m.Connection(ctx, "x")
			resolvetest.WantKind(t, what, err, conn.Timeout)
			if took := time.Since(start); took > resolvetest.Patience {
				t.Errorf("%s: answered after %v", what, took)
			}
		}
		locker, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := locker.ExecContext(t.Context(), k.lock); err != nil {
			t.Fatal(err)
		}
		late("table locked", m)
		if err := locker.Raw(func(any) error { return driver.ErrBadConn }); err == nil {
			t.Fatal("the locker's connection was not closed")
		}
		locker.Close()
		db.Close()
		resume := s.Pause()
		late("server that hangs", m)
		late("server that hangs at the login", cold)
		resume()
		for name, m := range map[string]*metastore.Store{"warm": m, "cold": cold} {
			if _, err := m.Connection(t.Context(), "x"); err != nil {
				t.Errorf("%s, afterwards: %v", name, err)
			}
		}
	})
}

func TestServersSchema(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		const schema = `My "odd` + "` schema"
		quoted := `"My ""odd` + "`" + ` schema"`
		if k.name == "mariadb" {
			quoted = "`" + `My "odd` + "`` schema`"
		}
		create := "CREATE SCHEMA " + quoted + "; CREATE TABLE " + quoted +
			".connection (LIKE connection)"
		if k.name == "mariadb" {
			create = "CREATE SCHEMA " + quoted + "; CREATE TABLE " + quoted +
				".connection LIKE connection"
		}
		s.Exec("airflow", create+"; INSERT INTO "+quoted+
			".connection (id, conn_id, conn_type) VALUES (1, 'only_there', 'http')")
		there := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow"),
			Schema: schema})
		if _, err := there.Connection(t.Context(), "only_there"); err != nil {
			t.Errorf("in the schema: %v", err)
		}
		if ids, err := there.List(t.Context()); err != nil || len(ids) != 1 {
			t.Errorf("list in the schema: %q, %v", ids, err)
		}
		plain := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
		_, err := plain.Connection(t.Context(), "only_there")
		resolvetest.WantKind(t, "in the default schema", err, conn.Absent)
		nowhere := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow"),
			Schema: "nowhere"})
		_, err = nowhere.Connection(t.Context(), "only_there")
		resolvetest.WantKind(t, "in a schema that is not there", err, conn.Unreachable)
	})
}

func TestServersListManyRowsFast(t *testing.T) {
	forEach(t, func(t *testing.T, k kindOfServer, s server, password string) {
		s.Exec("airflow", k.many)
		m := open(t, metastore.Settings{URL: s.URL("airflow", password, "airflow")})
		start := time.Now()
		ids, err := m.List(t.Context())
		if err != nil || len(ids) != 100_000 || time.Since(start) > resolvetest.Patience {
			t.Errorf("%d ids after %v, %v", len(ids), time.Since(start), err)
		}
		start = time.Now()
		if _, err := m.Connection(t.Context(), "many_99999"); err != nil ||
			time.Since(start) > resolvetest.Patience {
			t.Errorf("one of them: %v after %v", err, time.Since(start))
		}
	})
}

func TestPostgresThroughPgBouncer(t *testing.T) {
	k := kindsOfServer[0]
	pg := servers.StartPostgres(t)
	pg.Exec("airflow", k.reset)
	pg.Exec("airflow", k.createReader)
	db := direct(t, pg)
	resolvetest.Run(t, resolvetest.Harness{
		New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
			pg.Exec("airflow", k.reset+"; GRANT SELECT ON connection TO reader")
			for id, c := range connections {
				insertRow(t, db, k.insert, id, c)
			}
			return open(t, metastore.Settings{URL: bouncerURL(t, pg), Schema: "public"})
		},
		Unreachable: func(t *testing.T) backend.Backend {
			b := servers.StartPgBouncer(t, pg, map[string]string{"reader": "readerpw"})
			b.Stop()
			return open(t, metastore.Settings{URL: b.URL("reader", "readerpw", "airflow")})
		},
	})
}

// bouncerURL starts a PgBouncer and returns a URL through it, with the parameters that
// PgBouncer lets through.
func bouncerURL(t *testing.T, pg *servers.Postgres) string {
	b := servers.StartPgBouncer(t, pg, map[string]string{"reader": "readerpw"})
	return b.URL("reader", "readerpw", "airflow", "application_name=connfs", "connect_timeout=3")
}

// A database may keep its text in an encoding of its own, which cannot hold every id.
func TestPostgresTakesNoOtherLoginThanRequired(t *testing.T) {
	s := servers.StartPostgres(t)
	s.Exec("airflow", kindsOfServer[0].reset)
	for methods, kind := range map[string]conn.Kind{
		"scram-sha-256": conn.Absent, "md5,scram-sha-256": conn.Absent, "!password": conn.Absent,
		"none": conn.Denied, "md5": conn.Denied, "password": conn.Denied,
		"!scram-sha-256": conn.Denied,
	} {
		m := open(t, metastore.Settings{
			URL: s.URL("airflow", s.Password, "airflow", "require_auth="+methods)})
		_, err := m.Connection(t.Context(), "x")
		resolvetest.WantKind(t, methods, err, kind)
	}
	if _, err := metastore.Open(metastore.Settings{
		URL: s.URL("airflow", s.Password, "airflow", "require_auth=hunter2")}, nil); err == nil {
		t.Error("an unknown method is taken")
	}
}

func TestPostgresInAnotherEncoding(t *testing.T) {
	pg := servers.StartPostgres(t)
	pg.Exec("airflow", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	pg.Exec("latin", kindsOfServer[0].reset)
	pg.Exec("latin", `INSERT INTO connection (conn_id, conn_type) VALUES (U&'b\00FCcher', 'http')`)
	m := open(t, metastore.Settings{URL: pg.URL("airflow", pg.Password, "latin")})
	if _, err := m.Connection(t.Context(), "bücher"); err != nil {
		t.Errorf("bücher: %v", err)
	}
	_, err := m.Connection(t.Context(), "接続")
	resolvetest.WantKind(t, "接続", err, conn.Absent)
}

func TestPostgresHosts(t *testing.T) {
	pg := servers.StartPostgres(t)
	pg.Exec("airflow", kindsOfServer[0].reset)
	credentials := "postgresql://airflow:" + pg.Password + "@"
	for name, url := range map[string]string{
		"socket": credentials +
			fmt.Sprintf("/airflow?host=%s&port=%d", pg.Dir, pg.Port),
		"socket, port with it": credentials + fmt.Sprintf(":%d/airflow?host=%s", pg.Port, pg.Dir),
		"second of two hosts": credentials +
			fmt.Sprintf("/airflow?host=127.0.0.1:1&host=127.0.0.1:%d", pg.Port),
		"second in a list": credentials +
			fmt.Sprintf("/airflow?host=127.0.0.1,127.0.0.1&port=1,%d", pg.Port),
		"read-write": credentials +
			fmt.Sprintf("127.0.0.1:%d/airflow?target_session_attrs=read-write", pg.Port),
		"options": credentials +
			fmt.Sprintf("127.0.0.1:%d/airflow?options=-c%%20statement_timeout%%3D5000", pg.Port),
		"asyncpg": strings.Replace(credentials, "postgresql", "postgresql+asyncpg", 1) +
			fmt.Sprintf("127.0.0.1:%d/airflow?ssl=require", pg.Port),
		"postgres, and psycopg": strings.Replace(credentials, "postgresql", "postgres", 1) +
			fmt.Sprintf("127.0.0.1:%d/airflow", pg.Port),
	} {
		_, err := open(t, metastore.Settings{URL: url}).Connection(t.Context(), "x")
		resolvetest.WantKind(t, name, err, conn.Absent)
	}
	standby := credentials +
		fmt.Sprintf("127.0.0.1:%d/airflow?target_session_attrs=standby", pg.Port)
	_, err := open(t, metastore.Settings{URL: standby}).Connection(t.Context(), "x")
	resolvetest.WantKind(t, "no standby", err, conn.Unreachable)
}

func TestMariaDBSocketAndDrivers(t *testing.T) {
	s := servers.StartMariaDB(t)
	s.Exec("airflow", kindsOfServer[1].reset)
	for _, url := range slices.Concat([]string{
		"mysql://airflow:" + s.Password + "@localhost/airflow?unix_socket=" + s.Socket,
	}, driverURLs(s)) {
		_, err := open(t, metastore.Settings{URL: url}).Connection(t.Context(), "x")
		resolvetest.WantKind(t, "driver", err, conn.Absent)
	}
}

func driverURLs(s *servers.MariaDB) []string {
	var urls []string
	drivers := []string{"", "+aiomysql", "+mysqlconnector", "+mysqldb", "+pymysql"}
	for _, driver := range drivers {
		urls = append(urls, fmt.Sprintf("mysql%s://airflow:%s@127.0.0.1:%d/airflow?charset=utf8mb4",
			driver, s.Password, s.Port))
	}
	return urls
}

// Airflow's own setting for MySQL keeps ids in a three-byte character set.
func TestMariaDBIDsInAnotherCharacterSet(t *testing.T) {
	s := servers.StartMariaDB(t)
	s.Exec("airflow", kindsOfServer[1].reset)
	for _, collation := range []string{"utf8mb3_bin", "latin1_swedish_ci"} {
		character, _, _ := strings.Cut(collation, "_")
		s.Exec("airflow", "ALTER TABLE connection MODIFY conn_id varchar(250) CHARACTER SET "+
			character+" COLLATE "+collation+"; DELETE FROM connection; INSERT INTO connection "+
			"(conn_id, conn_type) VALUES ('bücher', 'http')")
		m := open(t, metastore.Settings{URL: s.URL("airflow", s.Password, "airflow")})
		if _, err := m.Connection(t.Context(), "bücher"); err != nil {
			t.Errorf("%s: %v", collation, err)
		}
		for _, id := range []string{"🔑", "接続", "bücher🔑"} {
			_, err := m.Connection(t.Context(), id)
			resolvetest.WantKind(t, collation+" "+id, err, conn.Absent)
		}
	}
}
