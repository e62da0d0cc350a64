package metastore

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
)

// Exposed says what is at stake on the network between connfs and the database of a URL, and
// what to do about it. It is empty where the database is on this machine, where the server
// proves who it is, and for a URL that [Open] refuses.
func Exposed(url string) (stake, hint string) {
	u, err := parseSQLURL(url)
	if err != nil {
		return "", ""
	}
	var host string
	var password bool // an impostor can get it
	switch name, _, _ := strings.Cut(u.Dialect, "+"); name {
	case "postgres", "postgresql":
		host, password = exposedPostgres(u)
		hint = "add sslmode=verify-full and sslrootcert=/path to the URL"
		if strings.HasSuffix(u.Dialect, "+asyncpg") {
			hint = "add ssl=verify-full to the URL"
		}
	case "mysql", "mariadb":
		host, password = exposedMySQL(u)
		hint = "add ssl_ca=/path, and ssl_verify_identity=true (mysqlconnector, mysqlclient: " +
			"ssl_mode=VERIFY_IDENTITY), to the URL"
	}
	if host == "" {
		return "", ""
	}
	stake = fmt.Sprintf("the database server at %s need not prove who it is: whoever is on the "+
		"network in between can read and change what it answers", host)
	if password {
		stake += ", and get the password"
	}
	return stake, hint
}

// exposedPostgres returns the host of the first server that need not prove who it is.
func exposedPostgres(u *sqlURL) (host string, password bool) {
	c, err := postgresConfig(u)
	if err != nil {
		return "", false
	}
	type server struct {
		host string
		tls  *tls.Config
	}
	servers := []server{{c.Host, c.TLSConfig}}
	for _, f := range c.Fallbacks {
		servers = append(servers, server{f.Host, f.TLSConfig})
	}
	for _, s := range servers {
		// A login that is bound to the server's certificate proves that it knows the password.
		if elsewhere(s.host) && c.ChannelBinding != "require" && !verified(s.tls) {
			return s.host, c.RequireAuth != "scram-sha-256"
		}
	}
	return "", false
}

// exposedMySQL returns the host of a server that need not prove who it is.
func exposedMySQL(u *sqlURL) (host string, password bool) {
	c, err := mysqlConfig(u)
	if err != nil || c.Net == "unix" || !elsewhere(u.Host) ||
		verified(c.TLS) && !c.AllowFallbackToPlaintext {
		return "", false
	}
	// Behind TLS the server may ask for the password in clear.
	return u.Host, c.TLS != nil
}

// verified reports whether a server must have a certificate of an authority that is trusted.
func verified(c *tls.Config) bool {
	return c != nil && (!c.InsecureSkipVerify || c.VerifyConnection != nil ||
		c.VerifyPeerCertificate != nil)
}

// elsewhere reports whether a host is another machine than this one.
func elsewhere(host string) bool {
	ip := net.ParseIP(host)
	return host != "" && host != "localhost" && !strings.HasPrefix(host, "/") &&
		!strings.HasPrefix(host, "@") && (ip == nil || !ip.IsLoopback())
}
