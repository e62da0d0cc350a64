package servers

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is a MariaDB server with an empty database "airflow" and the user "airflow",
// who may do everything in it and make other databases and users.
type MariaDB struct {
	*process
	Certificates
	Socket   string // path
	Port     int
	Password string // of the user airflow
}

// StartMariaDB starts a server that t stops at its end.
func StartMariaDB(t testing.TB) *MariaDB {
	t.Helper()
	const debian = "mariadb-server-core mariadb-client-core"
	install, mariadbd := program(t, "/usr/bin/mariadb-install-db", debian),
		program(t, "/usr/sbin/mariadbd", debian)
	a := accountNamed(t, "nobody", debian)
	dir := a.dir(t)
	s := &MariaDB{
		Socket: filepath.Join(dir, "my.sock"), Port: freePort(t), Password: newPassword(),
		Certificates: newCertificates(t, a, dir),
	}
	data := filepath.Join(dir, "data")
	small := []string{
		"--innodb-log-file-size=4M", "--innodb-data-file-path=ibdata1:8M:autoextend",
		"--innodb-buffer-pool-size=16M",
	}
	a.run(
		t, install,
		append(
			[]string{
				"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal",
				"--skip-test-db",
			},
			small...,
		)...,
	)
	root := s.config("root", "")
	root.Net, root.Addr, root.DBName = "unix", s.Socket, ""
	s.process = &process{
		t: t, account: a, path: mariadbd, log: filepath.Join(dir, "log"),
		args: append([]string{
			"--no-defaults", "--datadir=" + data, "--socket=" + s.Socket,
			"--pid-file=" + filepath.Join(dir, "my.pid"),
			"--port=" + strconv.Itoa(s.Port), "--bind-address=" + loopback, "--skip-name-resolve",
			"--skip-log-bin",
			// There is no fsync, but committed data outlives a server that is killed.
			"--innodb-flush-log-at-trx-commit=2", "--character-set-server=utf8mb4",
			"--ssl-cert=" + s.Cert, "--ssl-key=" + s.Key, "--ssl-ca=" + s.CA,
		}, small...),
		ready: func() error { return execMySQL(root, "SELECT 1") },
	}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	s.start()
	err := execMySQL(root, "CREATE DATABASE airflow CHARACTER SET utf8mb4; "+
		"CREATE USER airflow@'%' IDENTIFIED BY '"+s.Password+"'; "+
		"GRANT ALL ON *.* TO airflow@'%' WITH GRANT OPTION")
	if err != nil {
		t.Fatalf("MariaDB: %v", err)
	}
	return s
}

// URL returns the SQLAlchemy URL of a user and a database, with query parameters.
func (s *MariaDB) URL(user, password, database string, query ...string) string {
	return sqlURL("mysql+pymysql", user, password, s.Port, database, query)
}

// Exec runs SQL as the user airflow: several statements, if need be.
func (s *MariaDB) Exec(database, sql string) {
	s.t.Helper()
	c := s.config("airflow", s.Password)
	c.DBName = database
	if err := execMySQL(c, sql); err != nil {
		s.t.Fatalf("MariaDB: %v", err)
	}
}

// Open returns a pool of the user airflow, which t closes.
func (s *MariaDB) Open(database string) *sql.DB {
	s.t.Helper()
	c := s.config("airflow", s.Password)
	c.DBName = database
	connector, err := mysql.NewConnector(c)
	if err != nil {
		s.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	s.t.Cleanup(func() { db.Close() })
	return db
}

func (s *MariaDB) config(user, password string) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.MultiStatements = user, password, "tcp",
		fmt.Sprintf("%s:%d", loopback, s.Port), true
	c.Logger = &mysql.NopLogger{}
	return c
}

func execMySQL(c *mysql.Config, statements string) error {
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	_, err = db.ExecContext(ctx, statements)
	return err
}

// Stop shuts the server down.
func (s *MariaDB) Stop() { s.t.Helper(); s.end(syscall.SIGTERM) }

// Kill makes the server vanish.
func (s *MariaDB) Kill() { s.t.Helper(); s.end(syscall.SIGKILL) }

// Start starts the server again after [MariaDB.Stop] or [MariaDB.Kill].
func (s *MariaDB) Start() { s.t.Helper(); s.start() }
