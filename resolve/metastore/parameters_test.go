package metastore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a URL says wrongly, or what connfs cannot do, is refused before anything is
// dialled, by name and without a piece of the URL's values.
func TestURLRefusals(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"hunter2", "the database URL does not begin with DIALECT://"},
		{"airflow-db-not-allowed:///", "the database URL is the placeholder that Airflow 3 gives " +
			"to tasks: take the URL from airflow.cfg"},
		{"oracle://u:hunter2@h/d",
			"the database URL begins with oracle://, which is not one of Airflow's databases"},
		{"mysql+odbc://u:hunter2@h/d",
			"the database URL begins with mysql+odbc://, which is not one of Airflow's databases"},
		{"postgresql://u:p@hunter2@h/d", `the host in the database URL holds an "@": one in the password must be written %40`},
		{"postgresql://u:p@h:hunter2/d", `the port in the database URL is no number up to 65535: a ":" in the user and an "@" in the password must be written %3A and %40`},
		{"postgresql://u:p@h:70000/d", `the port in the database URL is no number up to 65535: a ":" in the user and an "@" in the password must be written %3A and %40`},
		{"postgresql://u:p@h/d?sslcrl=hunter2&krbsrvname=x", `the database URL has parameters that connfs cannot honour for PostgreSQL: "krbsrvname", "sslcrl"`},
		{"postgresql://u:p@h/d?sslmode=hunter2", `"sslmode" in the database URL: must be one of disable, allow, prefer, require, verify-ca, verify-full`},
		{"postgresql://u:p@h/d?sslmode=require&sslmode=disable", `the database URL gives "sslmode" more than once`},
		{"postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=/no/such/hunter2", `"sslrootcert" in the database URL: the file cannot be read: no such file or directory`},
		{"postgresql://u:p@h/d?connect_timeout=hunter2", `"connect_timeout" in the database URL: must be a number of seconds`},
		{"postgresql://u:p@h/d?client_encoding=latin1", `"client_encoding" in the database URL: must be one of utf8, utf-8, unicode`},
		{"postgresql://u:p@h/d?gssencmode=require", `"gssencmode" in the database URL: must be one of disable, prefer`},
		{"postgresql://u:p@/d?host=a:1&host=b:2&port=3", `the database URL gives ports both in "host" and elsewhere`},
		{"postgresql://u:p@/d?port=hunter2", "the database URL's parameters do not fit together: " +
			"look at ports, sslmode and the certificate files"},
		{"postgresql+asyncpg://u:p@h/d?sslmode=require", `the database URL has parameters that connfs cannot honour for PostgreSQL: "sslmode"`},
		{"mysql://u:p@h/d?init_command=hunter2&read_default_file=x", `the database URL has parameters that connfs cannot honour for MySQL: "init_command", "read_default_file"`},
		{"mysql://u:p@h/d?charset=latin1", `"charset" in the database URL: must be one of utf8, utf8mb3, utf8mb4`},
		{"mysql://u:p@h/d?use_unicode=0", `"use_unicode" in the database URL: connfs cannot honour false`},
		{"mysql://u:p@h/d?ssl_mode=hunter2", `"ssl_mode" in the database URL: must be one of disabled, preferred, required, verify_ca, verify_identity`},
		{"mysql://u:p@h/d?ssl_ca=/no/such/hunter2", `"ssl_ca" in the database URL: the file cannot be read: no such file or directory`},
		{"mysql://u:p@h/d?ssl_cert=/no/such/hunter2", `"ssl_cert" and "ssl_key" in the database URL: not a certificate and its key`},
		{"mysql://u:p@h/d?ssl_disabled=true&ssl_verify_cert=true",
			"the database URL both configures TLS and turns it off"},
		{"mysql://u:p@h/d?ssl_verify_cert=hunter2", `"ssl_verify_cert" in the database URL: must be true or false`},
		{"sqlite://", "the SQLite URL names no file: sqlite:////absolute/path"},
		{"sqlite:///:memory:", "the SQLite URL names no file: sqlite:////absolute/path"},
		{"sqlite:///file:hunter2?uri=true",
			"the SQLite URL names no file: sqlite:////absolute/path"},
		{"sqlite://hunter2/airflow.db",
			"an SQLite URL has no user, host or port: sqlite:////absolute/path"},
		{"sqlite:////tmp/x.db?vfs=hunter2", `the database URL has parameters that connfs cannot honour for SQLite: "vfs"`},
	} {
		_, err := Open(Settings{URL: c.url}, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v\nwant %s", c.url, err, c.want)
		}
	}
}

func mustParse(t *testing.T, text string) *sqlURL {
	t.Helper()
	u, err := parseSQLURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPostgresParameters(t *testing.T) {
	config, err := postgresConfig(mustParse(t, `postgresql://us%27er:p%20w%5C%27@db:6432/my db?sslmode=disable&connect_timeout=2.5&application_name=a%20b&options=-c%20x%3D1&target_session_attrs=read-write&keepalives=1`))
	if err != nil {
		t.Fatal(err)
	}
	if config.User != "us'er" || config.Password != `p w\'` || config.Host != "db" ||
		config.Port != 6432 || config.Database != "my db" {
		t.Error("user, password, host, port or database is not the URL's")
	}
	if config.TLSConfig != nil || config.ConnectTimeout != 3*time.Second ||
		config.ValidateConnect == nil {
		t.Errorf("sslmode, connect_timeout %v or target_session_attrs is not the URL's",
			config.ConnectTimeout)
	}
	for name, want := range map[string]string{"application_name": "a b", "options": "-c x=1",
		"client_encoding": "UTF8"} {
		if got := config.RuntimeParams[name]; got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if len(config.RuntimeParams) != 3 {
		t.Errorf("PgBouncer refuses parameters that it does not know: %d are sent",
			len(config.RuntimeParams))
	}
	config, err = postgresConfig(
		mustParse(t, "postgresql://u:p@/d?host=a:1&host=b&host=[::1]&host=/run/x&sslmode=disable"))
	if err == nil {
		var hosts []string
		hosts = append(hosts, config.Host)
		for _, f := range config.Fallbacks {
			hosts = append(hosts, f.Host)
		}
		if got := strings.Join(hosts, " "); got != "a b [::1] /run/x" || config.Port != 1 ||
			config.Fallbacks[0].Port != 5432 {
			t.Errorf("hosts %q, ports %d and %d", got, config.Port, config.Fallbacks[0].Port)
		}
	} else {
		t.Error(err)
	}
}

func TestMySQLTLSFollowsTheDriver(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(testCA), 0o600); err != nil {
		t.Fatal(err)
	}
	const none, plaintext, encrypted, chain, name = "no TLS", "TLS if there is", "TLS",
		"TLS and the chain", "TLS, the chain and the name"
	for _, c := range []struct{ url, want string }{
		{"mysql://h/d", plaintext},
		{"mysql+pymysql://h/d", plaintext},
		{"mysql://h/d?ssl_mode=DISABLED", none},
		{"mysql://h/d?ssl_mode=PREFERRED", plaintext},
		{"mysql://h/d?ssl_mode=REQUIRED", encrypted},
		{"mysql://h/d?ssl=true", encrypted},
		{"mysql://h/d?ssl_ca=" + ca, chain},
		{"mysql+mysqlconnector://h/d?ssl_ca=" + ca, chain},
		{"mysql+mysqlconnector://h/d?ssl_verify_identity=true&ssl_ca=" + ca, name},
		{"mysql+pymysql://h/d?ssl_ca=" + ca, name},
		{"mysql+pymysql://h/d?ssl_check_hostname=false&ssl_ca=" + ca, chain},
		{"mysql+aiomysql://h/d?ssl_ca=" + ca, name},
		{"mysql://h/d?ssl_mode=VERIFY_IDENTITY&ssl_ca=" + ca, name},
		{"mysql://h/d?ssl_verify_cert=true", chain},
		{"mysql+mysqlconnector://h/d?ssl_disabled=1", none},
	} {
		config, err := mysqlConfig(mustParse(t, c.url))
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		got := name
		switch {
		case config.TLS == nil:
			got = none
		case config.AllowFallbackToPlaintext:
			got = plaintext
		case config.TLS.InsecureSkipVerify && config.TLS.VerifyConnection == nil:
			got = encrypted
		case config.TLS.InsecureSkipVerify:
			got = chain
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
	}
}

func TestMySQLAddress(t *testing.T) {
	for url, want := range map[string]string{
		"mysql+pymysql://u:p@localhost/d":         "tcp localhost:3306",
		"mysql+pymysql://u:p@[::1]:3307/d":        "tcp [::1]:3307",
		"mysql+pymysql:///d":                      "tcp localhost:3306",
		"mysql://u:p@127.0.0.1/d":                 "tcp 127.0.0.1:3306",
		"mysql://u:p@localhost/d?unix_socket=/s":  "unix /s",
		"mysql+pymysql://u:p@h/d?unix_socket=/s1": "unix /s1",
	} {
		config, err := mysqlConfig(mustParse(t, url))
		if err != nil || config.Net+" "+config.Addr != want {
			t.Errorf("%s: %s %s, %v; want %s", url, config.Net, config.Addr, err, want)
		}
	}
}

func TestSQLitePaths(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"sqlite:////tmp/a b%20c.db":                             "/tmp/a b%20c.db",
		"sqlite:///airflow.db":                                  filepath.Join(dir, "airflow.db"),
		"sqlite+pysqlite:////tmp/x.db?check_same_thread=false":  "/tmp/x.db",
		"sqlite:////tmp/../tmp/x#y.db?timeout=30":               "/tmp/x#y.db",
		"sqlite+aiosqlite:////tmp/x.db?timeout=30&detect_types": "/tmp/x.db",
	} {
		db, err := openSQLite(mustParse(t, url))
		if err != nil || db.(*sqliteFile).path != want {
			t.Errorf("%s: %v, %v; want %s", url, db, err, want)
		}
	}
}

// testCA is a certificate that only has to be read.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUY2WnJmuCq8LUGYgklNHNz9E7+wgwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIyMDUwMTVaGA8yMTI2MTAyOTIwNTAx
NVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBLb
kUGKqPqg5H4/SLXQ6IY0t/mMGZ/0KxA6TyOaPOV3e0LYPXV0nTxEsVLarsV/6P4F
F3hvcgsztrTXTEnv8g+jUzBRMB0GA1UdDgQWBBRVNszMUDLkb5QmFfcq5DFoTE4o
QjAfBgNVHSMEGDAWgBRVNszMUDLkb5QmFfcq5DFoTE4oQjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIAEvFUWQQrMBV7/aCLuNhpHJnfjBai8fx4n4
9PMlNlnhAiAZ+hmb+k3MpfjJ8oKPCOuZe+DZL3IWxSbk0IQeyjb/Fw==
-----END CERTIFICATE-----
`
