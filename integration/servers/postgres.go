package servers

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres is a PostgreSQL server with an empty database "airflow" and its owner, the
// superuser "airflow".
type Postgres struct {
	*process
	Certificates
	Dir      string // also the directory of its socket
	Port     int
	Password string // of the user airflow
}

// StartPostgres starts a server that t stops at its end.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	const debian = "postgresql"
	bin := filepath.Dir(program(t, "/usr/lib/postgresql/*/bin/postgres", debian))
	a := accountNamed(t, "postgres", debian)
	dir := a.dir(t)
	s := &Postgres{
		Dir: dir, Port: freePort(t), Password: newPassword(),
		Certificates: newCertificates(t, a, dir),
	}
	data := filepath.Join(dir, "data")
	passwordFile := a.write(t, filepath.Join(dir, "pw"), s.Password)
	a.run(t, filepath.Join(bin, "initdb"), "-D", data, "-U", "airflow", "--pwfile="+passwordFile,
		"--auth-local=scram-sha-256", "--auth-host=scram-sha-256",
		"-E", "UTF8", "--locale=C.UTF-8", "-N")
	s.process = &process{
		t: t, account: a, path: filepath.Join(bin, "postgres"), log: filepath.Join(dir, "log"),
		args: []string{
			"-D", data, "-p", strconv.Itoa(s.Port), "-k", dir, "-c", "listen_addresses=" + loopback,
			"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB",
			"-c", "max_connections=50", "-c", "ssl=on", "-c", "ssl_cert_file=" + s.Cert, "-c",
			"ssl_key_file=" + s.Key,
		},
		ready: func() error { return s.exec("postgres", "SELECT 1") },
	}
	t.Cleanup(func() { s.end(syscall.SIGQUIT) })
	s.start()
	s.Exec("postgres", "CREATE DATABASE airflow")
	return s
}

// URL returns the SQLAlchemy URL of a user and a database, with query parameters.
func (s *Postgres) URL(user, password, database string, query ...string) string {
	return sqlURL("postgresql+psycopg2", user, password, s.Port, database, query)
}

// Exec runs SQL as the superuser: several statements, if need be.
func (s *Postgres) Exec(database, sql string) {
	s.t.Helper()
	if err := s.exec(database, sql); err != nil {
		s.t.Fatalf("PostgreSQL: %v", err)
	}
}

func (s *Postgres) exec(database, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := s.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	_, err = c.Exec(ctx, sql).ReadAll()
	return err
}

// Connect returns a connection of the superuser.
func (s *Postgres) Connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	return pgconn.Connect(
		ctx,
		fmt.Sprintf("host=%s port=%d user=airflow password=%s dbname=%s sslmode=disable", loopback,
			s.Port, s.Password, database),
	)
}

// Stop shuts the server down, telling its clients.
func (s *Postgres) Stop() { s.t.Helper(); s.end(syscall.SIGINT) }

// Kill makes the server crash.
func (s *Postgres) Kill() { s.t.Helper(); s.end(syscall.SIGQUIT) }

// Start starts the server again after [Postgres.Stop] or [Postgres.Kill].
func (s *Postgres) Start() { s.t.Helper(); s.start() }

// PgBouncer is a PgBouncer in transaction mode, with default settings otherwise, in
// front of a PostgreSQL server.
type PgBouncer struct {
	*process
	Port int
}

// StartPgBouncer starts a PgBouncer that t stops at its end. It knows the given users
// and their passwords.
func StartPgBouncer(t testing.TB, server *Postgres, users map[string]string) *PgBouncer {
	t.Helper()
	const debian = "pgbouncer"
	a := accountNamed(t, "nobody", debian)
	dir := a.dir(t)
	s := &PgBouncer{Port: freePort(t)}
	var list strings.Builder
	for user, password := range users {
		fmt.Fprintf(&list, "%q %q\n", user, password)
	}
	config := a.write(t, filepath.Join(dir, "pgbouncer.ini"), fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
pool_mode = transaction
default_pool_size = 2
auth_type = scram-sha-256
auth_file = %s
`, loopback, server.Port, loopback, s.Port, a.write(t, filepath.Join(dir, "users"), list.String())))
	s.process = &process{
		t: t, account: a, path: program(t, "/usr/sbin/pgbouncer", debian), args: []string{config},
		log: filepath.Join(dir, "log"),
		ready: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			var err error
			for user, password := range users {
				var c *pgconn.PgConn
				c, err = pgconn.Connect(
					ctx,
					fmt.Sprintf(
						"host=%s port=%d user=%s password=%s dbname=airflow sslmode=disable",
						loopback, s.Port, user, password,
					),
				)
				if err == nil {
					return c.Close(ctx)
				}
			}
			return err
		},
	}
	t.Cleanup(func() { s.end(syscall.SIGTERM) })
	s.start()
	return s
}

// URL returns the SQLAlchemy URL of a user and a database.
func (s *PgBouncer) URL(user, password, database string, query ...string) string {
	return sqlURL("postgresql+psycopg2", user, password, s.Port, database, query)
}

// Stop ends the PgBouncer.
func (s *PgBouncer) Stop() { s.t.Helper(); s.end(syscall.SIGTERM) }

// sqlURL writes host as "localhost", the name in the certificates.
func sqlURL(dialect, user, password string, port int, database string, query []string) string {
	u := fmt.Sprintf("%s://%s:%s@localhost:%d/%s", dialect, url.PathEscape(user),
		url.PathEscape(password), port, database)
	if len(query) > 0 {
		u += "?" + strings.Join(query, "&")
	}
	return u
}
