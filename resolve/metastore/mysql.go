package metastore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/backend"
)

// mysqlServer is a metastore on MySQL or MariaDB.
type mysqlServer struct{ *pool }

func openMySQL(u *sqlURL) (database, error) {
	config, err := mysqlConfig(u)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		// The driver's text may quote settings.
		return nil, errors.New("the database URL's parameters do not fit together")
	}
	p := newPool(connector, classifyMySQL, deadMySQL)
	p.refused = refusedMySQL
	return mysqlServer{p}, nil
}

// mysqlSockets are where the C library, and so mysqlclient, looks for a server on
// "localhost" before it thinks of TCP.
var mysqlSockets = []string{"/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock",
	"/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"}

func mysqlConfig(u *sqlURL) (*mysql.Config, error) {
	driver := "mysqldb"
	if _, after, ok := strings.Cut(u.Dialect, "+"); ok {
		driver = after
	}
	var socket, charset, plugin string
	var timeout, readTimeout, writeTimeout time.Duration
	unicode := true
	t := mysqlTLS{}
	setters := map[string]setter{
		"unix_socket": setText(&socket),
		// connfs uses utf8mb4; the other two are parts of it.
		"charset":     setOneOf(&charset, "utf8", "utf8mb3", "utf8mb4"),
		"use_unicode": setBool(&unicode),

		"connect_timeout": setSeconds(&timeout), "connection_timeout": setSeconds(&timeout),
		"read_timeout": setSeconds(&readTimeout), "write_timeout": setSeconds(&writeTimeout),
		"auth_plugin": setOneOf(&plugin, "mysql_native_password", "caching_sha2_password"),

		"ssl":      setBool(&t.required),
		"ssl_ca":   setText(&t.ca),
		"ssl_cert": setText(&t.cert),
		"ssl_key":  setText(&t.key),
		"ssl_mode": setOneOf(&t.mode, "disabled", "preferred", "required", "verify_ca",
			"verify_identity"),
		"ssl_disabled":        setBool(&t.disabled),
		"ssl_verify_cert":     setBool(&t.verify),
		"ssl_verify_identity": setBool(&t.identity),
		"ssl_check_hostname":  t.setCheckHostname,

		// These change nothing about what a SELECT returns.
		"autocommit": noEffect, "binary_prefix": noEffect, "compress": noEffect,
		"local_infile": noEffect, "allow_local_infile": noEffect, "program_name": noEffect,
		"use_pure": noEffect, "buffered": noEffect, "raise_on_warnings": noEffect,
		"get_warnings": noEffect, "consume_results": noEffect,
		"collation": noEffect, // ids are compared byte for byte afterwards
	}
	if err := u.Query.apply("MySQL", setters); err != nil {
		return nil, err
	}
	if !unicode {
		return nil, errors.New(`"use_unicode" in the database URL: connfs cannot honour false`)
	}

	config := mysql.NewConfig()
	config.User, config.Passwd, config.DBName = u.User, u.Password, u.Database
	port := strconv.Itoa(int(orDefault(u.Port, 3306)))
	config.Net, config.Addr = "tcp", net.JoinHostPort(orDefault(u.Host, "localhost"), port)
	if socket == "" && driver == "mysqldb" && (u.Host == "" || u.Host == "localhost") {
		socket = firstSocket(mysqlSockets)
	}
	if socket != "" {
		config.Net, config.Addr = "unix", socket
	}
	if config.Net == "tcp" && elsewhere(u.Host) {
		config.DialFunc = withoutRSA
	}
	config.Timeout, config.ReadTimeout, config.WriteTimeout = timeout, readTimeout, writeTimeout
	// Without it every query is prepared, which costs a round trip.
	config.InterpolateParams = true
	config.Logger = &mysql.NopLogger{}
	var err error
	config.TLS, config.AllowFallbackToPlaintext, err = t.config(driver, u.Host)
	if err != nil {
		return nil, err
	}
	return config, nil
}

func firstSocket(paths []string) string {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			return path
		}
	}
	return ""
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// mysqlTLS is what a URL says about TLS. Where a Python driver would take a CA and
// then not check against it (mysqlconnector without ssl_verify_cert), connfs checks:
// whoever names a CA means it.
type mysqlTLS struct {
	ca, cert, key string // paths
	mode          string // mysqlclient's ssl_mode in small letters
	required      bool
	disabled      bool
	verify        bool
	identity      bool
	checkHostname *bool // ssl_check_hostname, which PyMySQL takes as true where there is a CA
}

// maxPEM is the largest file of certificates that is read, in bytes.
const maxPEM = 16 << 20

func (t *mysqlTLS) setCheckHostname(value string) error {
	v, err := parseBool(value)
	t.checkHostname = &v
	return err
}

// config returns nil for no TLS, and whether a server without TLS is good enough: that
// is so where the URL says nothing.
func (t *mysqlTLS) config(driver, host string) (c *tls.Config, plaintext bool, err error) {
	files := t.ca != "" || t.cert != "" || t.key != ""
	if t.disabled || t.mode == "disabled" {
		if files || t.required || t.verify || t.identity {
			return nil, false, errors.New("the database URL both configures TLS and turns it off")
		}
		return nil, false, nil
	}
	verify := t.verify || t.ca != "" || t.mode == "verify_ca" || t.mode == "verify_identity" ||
		t.identity
	identity := t.identity || t.mode == "verify_identity"
	switch {
	case t.checkHostname != nil:
		identity = identity || *t.checkHostname && verify
	case t.ca != "" && (driver == "pymysql" || driver == "aiomysql"):
		identity = true
	}
	c = &tls.Config{ServerName: orDefault(host, "localhost"), MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, _, err := regularfile.Read(t.ca, 0, maxPEM, trust.Own())
		if err != nil {
			return nil, false, fmt.Errorf(`"ssl_ca" in the database URL: the file cannot be read: %s`, backend.FileReason(err))
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, false, errors.New(`"ssl_ca" in the database URL: the file holds no certificate`)
		}
	}
	if t.cert != "" || t.key != "" {
		if wrong := trust.Own().Check(t.cert, t.key); wrong != nil {
			return nil, false, fmt.Errorf("the database URL: %w", wrong)
		}
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, false, errors.New(`"ssl_cert" and "ssl_key" in the database URL: not a certificate and its key`)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if !identity {
		// Go checks chain and name together or nothing.
		c.InsecureSkipVerify = true
		if verify {
			c.VerifyConnection = verifyChain(c.RootCAs)
		}
	}
	plaintext = !verify && !t.required && !files && (t.mode == "" || t.mode == "preferred")
	return c, plaintext, nil
}

// verifyChain checks a server's certificate against roots, whatever its name.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server has no certificate")
		}
		intermediates := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots,
			Intermediates: intermediates})
		return err
	}
}

func (mysqlServer) quote(name string) string {
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}

func (mysqlServer) placeholder() string { return "?" }

func (mysqlServer) argument(int) string { return "?" }

// same compares text byte for byte, whatever the collation takes for equal.
func (mysqlServer) same(column, argument string, value any) string {
	if _, ok := value.([]byte); ok {
		column = "CAST(CONVERT(" + column + " USING utf8mb4) AS BINARY)"
		argument = "CAST(" + argument + " AS BINARY)"
	}
	return column + " <=> " + argument
}

func (mysqlServer) forUpdate() string { return " FOR UPDATE" }

func (mysqlServer) holds(id string) bool { return utf8.ValidString(id) }

func (mysqlServer) text(value any) (string, bool) {
	switch v := value.(type) {
	case []byte:
		return string(v), true
	case string:
		return v, true
	}
	return "", false
}

// deadMySQL: the server ended the session.
func deadMySQL(err error) bool {
	if errors.Is(err, mysql.ErrInvalidConn) {
		return true
	}
	var me *mysql.MySQLError
	if errors.As(err, &me) {
		switch me.Number {
		case 1053, 1152, 1159, 1160, 1161, 1184, 1927, 4031:
			return true
		}
	}
	return false
}

// classifyMySQL is the table of error numbers, which MySQL and MariaDB share.
func classifyMySQL(used tables, err error) *conn.Error {
	answer := func(kind conn.Kind, reason string) *conn.Error {
		return &conn.Error{Kind: kind, Reason: reason}
	}
	var me *mysql.MySQLError
	if !errors.As(err, &me) {
		switch {
		case errors.Is(err, errRSAExchange):
			e := answer(conn.Denied, "the server asks for the password without TLS, under a key "+
				"that anybody on the network could have sent")
			e.Hint = "use TLS: add ssl_ca=/path to the database URL"
			return e
		case errors.Is(err, mysql.ErrNoTLS):
			return answer(conn.Unreachable,
				"the server offers no TLS, and the database URL demands it")
		case errors.Is(err, mysql.ErrInvalidConn):
			return answer(conn.Unreachable, "the server cut the connection")
		case errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrOldPassword),
			errors.Is(err, mysql.ErrUnknownPlugin):
			return answer(conn.Denied,
				"the server asks for a kind of login that connfs does not do")
		}
		return nil
	}
	numbered := func(kind conn.Kind, reason string) *conn.Error {
		return answer(kind, fmt.Sprintf("%s (error %d)", reason, me.Number))
	}
	switch me.Number {
	case 1045, 1044, 1130, 1251, 1698, 1862, 3118, 4151:
		return numbered(conn.Denied,
			"the server refuses the login: wrong user, password, address or database")
	case 1142, 1143:
		return used.unreadable(fmt.Sprintf(" (error %d)", me.Number))
	case 1267, 3988:
		// The only comparison there is, is with the id.
		return numbered(conn.Absent,
			"the column conn_id is in a character set that cannot hold this id")
	case 1146:
		return used.missing(err)
	case 1049, 1046:
		return numbered(conn.Unreachable, "the server has no such database")
	case 1040, 1203, 1226:
		return numbered(conn.Unreachable, "the server has no connection left")
	case 1053:
		return numbered(conn.Unreachable, "the server is shutting down")
	case 1205, 1969, 3024, 1317:
		return numbered(conn.Timeout,
			"the server broke the query off: a lock or its own time limit")
	}
	return numbered(conn.Unreachable, "the query failed")
}

// refusedMySQL is the table of error numbers that mean another thing to who writes.
func refusedMySQL(err error) *conn.Error {
	var me *mysql.MySQLError
	if !errors.As(err, &me) {
		return nil
	}
	switch me.Number {
	case 1142, 1143:
		return mayNotWrite()
	case 1290, 1792, 1836, 3100:
		return conn.Errorf(conn.Unreachable, "",
			"the server takes no writes: a replica, or read-only")
	case 1406:
		return tooLong()
	case 1264, 1265, 1366, 1048:
		return conn.Errorf(conn.Failed, "", "the row cannot hold this (error %d)", me.Number)
	case 1213:
		return conn.Errorf(conn.Timeout, "", "another transaction was in the way (error 1213)")
	}
	return nil
}
