package metastore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/backend"
)

// postgres is a metastore on PostgreSQL, possibly behind PgBouncer in transaction
// mode: it prepares no statements and sets nothing on the session.
type postgres struct{ *pool }

func openPostgres(u *sqlURL) (database, error) {
	config, err := postgresConfig(u)
	if err != nil {
		return nil, err
	}
	classify := classifyPostgres
	if config.RequireAuth != "" {
		classify = classifyRequiredLogin
	}
	p := newPool(stdlib.GetConnector(*config), classify, deadPostgres)
	p.refused = refusedPostgres
	return postgres{p}, nil
}

// postgresConfig gives libpq's parameters to pgx, which reads them, and the PG*
// variables, the password file and the files under ~/.postgresql, as libpq does.
func postgresConfig(u *sqlURL) (*pgx.ConnConfig, error) {
	var encoding, gss, balance, compression string
	var ignored time.Duration
	settings := map[string]string{"user": u.User, "password": u.Password, "host": u.Host,
		"dbname": u.Database}
	if u.Port != 0 {
		settings["port"] = strconv.Itoa(int(u.Port))
	}
	text := func(name string) setter {
		return func(value string) error { settings[name] = value; return nil }
	}
	word := func(name string, words ...string) setter {
		return func(value string) error {
			if !slices.Contains(words, value) {
				return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
			}
			settings[name] = value
			return nil
		}
	}
	file := func(name string) setter {
		return func(value string) error {
			settings[name] = value
			if name == "sslrootcert" && value == "system" {
				return nil
			}
			return readable(value)
		}
	}
	seconds := func(value string) error {
		var d time.Duration
		if err := setSeconds(&d)(value); err != nil {
			return err
		}
		settings["connect_timeout"] = strconv.Itoa(int((d + time.Second - 1) / time.Second))
		return nil
	}
	sslmode := word("sslmode", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
	setters := map[string]setter{
		"user": text("user"), "password": text("password"), "dbname": text("dbname"),
		"port": text("port"), "passfile": text("passfile"), "service": text("service"),
		"application_name": text("application_name"), "options": text("options"),
		"connect_timeout": seconds, "sslmode": sslmode,
		"sslrootcert": file("sslrootcert"), "sslcert": file("sslcert"), "sslkey": file("sslkey"),
		"sslpassword": text("sslpassword"), "sslsni": word("sslsni", "0", "1"),
		"sslnegotiation":  word("sslnegotiation", "postgres", "direct"),
		"channel_binding": word("channel_binding", "disable", "prefer", "require"),
		"require_auth":    text("require_auth"), // pgx checks the methods
		"target_session_attrs": word("target_session_attrs", "any", "read-write", "read-only",
			"primary", "standby", "prefer-standby"),

		"fallback_application_name": noEffect,
		"keepalives":                noEffect,
		"keepalives_idle":           noEffect,
		"keepalives_interval":       noEffect,
		"keepalives_count":          noEffect,
		"tcp_user_timeout":          noEffect, // the deadline of the read is shorter
		"gssencmode":                setOneOf(&gss, "disable", "prefer"),
		"load_balance_hosts":        setOneOf(&balance, "disable"),
		"sslcompression":            setOneOf(&compression, "0"),
		"sslcertmode":               word("sslcertmode", "disable", "allow"),
		"client_encoding":           setOneOf(&encoding, "utf8", "utf-8", "unicode"),
	}
	if strings.HasSuffix(u.Dialect, "+asyncpg") {
		setters = map[string]setter{
			"user": text("user"), "password": text("password"), "database": text("dbname"),
			"port": text("port"), "passfile": text("passfile"), "ssl": sslmode, "timeout": seconds,
			"target_session_attrs": setters["target_session_attrs"],
			// The deadline of the read counts instead.
			"command_timeout":               setSeconds(&ignored),
			"prepared_statement_cache_size": noEffect, "statement_cache_size": noEffect,
			"max_cached_statement_lifetime": noEffect, "max_cacheable_statement_size": noEffect,
		}
	}

	// Several hosts are one parameter given several times, or a list in one.
	query := make(sqlQuery, len(u.Query))
	for name, values := range u.Query {
		query[name] = values
	}
	if hosts := query["host"]; len(hosts) > 0 {
		delete(query, "host")
		portGiven := u.Port != 0 || len(query["port"]) > 0
		if err := postgresHosts(settings, hosts, portGiven); err != nil {
			return nil, err
		}
	}
	if err := query.apply("PostgreSQL", setters); err != nil {
		return nil, err
	}

	if err := checkPasswordFiles(settings["passfile"]); err != nil {
		return nil, err
	}
	var dsn strings.Builder
	for name, value := range settings {
		if value != "" {
			fmt.Fprintf(&dsn, "%s='%s' ", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	config, err := pgx.ParseConfig(dsn.String())
	if err != nil {
		// pgx's text quotes settings.
		return nil, errors.New("the database URL's parameters do not fit together: look at " +
			"ports, sslmode and the certificate files")
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity = 0
	config.DescriptionCacheCapacity = 0
	// PgBouncer knows this encoding. A database may default to another.
	config.RuntimeParams["client_encoding"] = "UTF8"
	return config, nil
}

// hostAndPort is how SQLAlchemy tells a host with a port from a socket directory or an
// IPv6 address.
var hostAndPort = regexp.MustCompile(`^([a-zA-Z0-9\-.]*)(?::(\d*))?$`)

// postgresHosts takes over host parameters: one list in libpq's form, or one
// parameter for each host, with its port.
func postgresHosts(settings map[string]string, given []string, havePort bool) error {
	if len(given) == 1 && strings.Contains(given[0], ",") {
		settings["host"] = given[0]
		return nil
	}
	var hosts, ports []string
	var anyPort bool
	for _, h := range given {
		host, port := h, ""
		if m := hostAndPort.FindStringSubmatch(h); m != nil {
			host, port = m[1], m[2]
		}
		hosts, ports = append(hosts, host), append(ports, port)
		anyPort = anyPort || port != ""
	}
	settings["host"] = strings.Join(hosts, ",")
	if !anyPort {
		return nil
	}
	if havePort {
		return errors.New("the database URL gives ports both in \"host\" and elsewhere")
	}
	for i, port := range ports {
		if port == "" {
			ports[i] = "5432"
		}
	}
	settings["port"] = strings.Join(ports, ",")
	return nil
}

// readable says in words why a file of the URL cannot be read, or not be trusted. What can be
// trusted stays so until pgx opens it.
func readable(path string) error {
	f, err := trust.Own().Open(path, 0)
	if err != nil {
		return errors.New("the file cannot be read: " + backend.FileReason(err))
	}
	return f.Close()
}

// checkPasswordFiles reports a file with passwords, servers or certificates that somebody else
// could change: the one that the URL names, or those that libpq's variables do. They need not be
// there.
func checkPasswordFiles(passfile string) error {
	names := []string{"PGPASSFILE", "PGSERVICEFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"}
	paths := []string{passfile}
	for _, name := range names {
		paths = append(paths, os.Getenv(name))
	}
	if wrong := trust.Own().Check(paths...); wrong != nil {
		return wrong
	}
	return nil
}

func (postgres) quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func (postgres) placeholder() string { return "$1" }

func (postgres) argument(n int) string { return "$" + strconv.Itoa(n) }

func (postgres) same(column, argument string, _ any) string {
	return column + " IS NOT DISTINCT FROM " + argument
}

func (postgres) forUpdate() string { return " FOR UPDATE" }

func (postgres) holds(id string) bool {
	return utf8.ValidString(id) && !strings.Contains(id, "\x00")
}

func (postgres) text(value any) (string, bool) {
	v, ok := value.(string)
	return v, ok
}

// deadPostgres: the server, or PgBouncer in its place, ended the session.
func deadPostgres(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch pe.Code {
		case "57P01", "57P02", "57P05", "08P01", "08006", "08003", "25P03", "25P04":
			return true
		}
		return false
	}
	return pgconn.SafeToRetry(err)
}

// classifyRequiredLogin is classifyPostgres where require_auth is set. A login that fails, and
// neither by the server's word nor by the network's or TLS's fault, failed for that.
func classifyRequiredLogin(used tables, err error) *conn.Error {
	var (
		login  *pgconn.ConnectError
		netErr net.Error
		verify *tls.CertificateVerificationError
		alert  tls.AlertError
		header tls.RecordHeaderError
	)
	if e := classifyPostgres(used, err); e != nil || !errors.As(err, &login) ||
		errors.As(err, &netErr) || errors.As(err, &verify) || errors.As(err, &alert) ||
		errors.As(err, &header) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return e
	}
	return conn.Errorf(conn.Denied, "",
		"the server asks for another kind of login than require_auth in the database URL takes")
}

// classifyPostgres is the table of SQLSTATEs.
func classifyPostgres(used tables, err error) *conn.Error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return nil
	}
	answer := func(kind conn.Kind, reason string) *conn.Error {
		return &conn.Error{Kind: kind, Reason: reason + " (SQLSTATE " + pe.Code + ")"}
	}
	switch pe.Code {
	case "28P01", "28000":
		return answer(conn.Denied,
			"the server refuses the login: wrong user, password, certificate or address")
	case "42501":
		return used.unreadable(" (SQLSTATE " + pe.Code + ")")
	case "42P01", "3F000":
		return used.missing(err)
	case "22P05":
		// The id does not translate to the database's encoding; its own text always
		// translates to UTF-8.
		return answer(conn.Absent, "the database is in an encoding that cannot hold this id")
	case "3D000":
		return answer(conn.Unreachable, "the server has no such database")
	case "57014":
		return answer(conn.Timeout, "the server broke the query off: a statement_timeout")
	case "55P03":
		return used.locked(" (SQLSTATE " + pe.Code + ")")
	case "53300":
		return answer(conn.Unreachable, "the server has no connection left")
	case "57P01", "57P02":
		return answer(conn.Unreachable, "the server is shutting down")
	case "57P03":
		return answer(conn.Unreachable, "the server is starting up or shutting down")
	}
	switch pe.Code[:min(2, len(pe.Code))] {
	case "08":
		return answer(conn.Unreachable, "the connection to the server failed")
	case "22":
		return answer(conn.Invalid, "what is stored cannot be read")
	case "XX":
		return answer(conn.Unreachable, "the server found its data damaged or failed inside")
	}
	return answer(conn.Unreachable, "the query failed")
}

// refusedPostgres is the table of SQLSTATEs that mean another thing to who writes.
func refusedPostgres(err error) *conn.Error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return nil
	}
	switch pe.Code {
	case "42501":
		return mayNotWrite()
	case "25006":
		return conn.Errorf(conn.Unreachable, "",
			"the server takes no writes: a standby, or read-only")
	case "22001":
		return tooLong()
	}
	if pe.Code[:min(2, len(pe.Code))] == "22" || pe.Code[:min(2, len(pe.Code))] == "23" {
		return conn.Errorf(conn.Failed, "", "the row cannot hold this (SQLSTATE %s)", pe.Code)
	}
	return nil
}
