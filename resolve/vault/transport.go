package vault

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

// serverAddress returns where Vault is: the argument url, VAULT_ADDR, or Airflow's default.
func serverAddress(kw *arguments.Object) *url.URL {
	address := cmp.Or(kw.Text("url", ""), os.Getenv("VAULT_ADDR"), "http://localhost:8200")
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.RawQuery != "" || u.Fragment != "" {
		kw.Fail("url", "expected http://HOST:PORT or https://HOST:PORT, here or in VAULT_ADDR")
	}
	return u
}

// newTransport reads verify, cert and proxies, with the meaning that they have to
// Python's requests.
func newTransport(kw *arguments.Object) *http.Transport {
	return &http.Transport{
		Proxy:                 proxyFor(kw),
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:       tlsConfig(kw),
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// redirects returns what decides whether a redirect is followed: only to the same host and
// port, or from http to https of the same host. The token and what logs in go along, as in
// Airflow, so they never go where the configuration does not send them.
func redirects(follow bool) func(*http.Request, []*http.Request) error {
	return func(next *http.Request, before []*http.Request) error {
		first := before[0].URL
		secured := first.Scheme == "http" && next.URL.Scheme == "https"
		switch {
		case !follow:
			return http.ErrUseLastResponse
		case len(before) > 5:
			return conn.Errorf(conn.Unreachable, "", "Vault redirects too often")
		case first.Scheme == "https" && next.URL.Scheme != "https":
			return conn.Errorf(conn.Unreachable, "", "Vault redirects from https to http, and the "+
				"token does not go there")
		case next.URL.Hostname() != first.Hostname(), next.URL.Host != first.Host && !secured:
			e := conn.Errorf(conn.Unreachable, "", "Vault redirects to %.100q, and the token "+
				"goes to no other host", next.URL.Host)
			e.Hint = "a standby node should forward requests; or name the active node in url"
			return e
		}
		return nil
	}
}

// proxyFor returns the proxy of the argument proxies for a scheme, or for a scheme and
// host; else what the environment says.
func proxyFor(kw *arguments.Object) func(*http.Request) (*url.URL, error) {
	proxies := make(map[string]*url.URL)
	for name, v := range kw.Map("proxies") {
		text, ok := v.(string)
		if v == nil || ok && text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		if !ok || err != nil || u.Host == "" {
			kw.Fail("proxies", "expected an object of URLs")
			continue
		}
		proxies[name] = u
	}
	return func(r *http.Request) (*url.URL, error) {
		scheme, host := r.URL.Scheme, r.URL.Hostname()
		for _, name := range []string{scheme + "://" + host, scheme, "all://" + host, "all"} {
			if u, ok := proxies[name]; ok {
				return u, nil
			}
		}
		return http.ProxyFromEnvironment(r)
	}
}

// tlsConfig reads verify and cert. Where verify does not name the authorities, Python's
// variables do, and then those of Vault's own tools.
func tlsConfig(kw *arguments.Object) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	authorities := cmp.Or(os.Getenv("REQUESTS_CA_BUNDLE"), os.Getenv("CURL_CA_BUNDLE"),
		os.Getenv("VAULT_CACERT"), os.Getenv("VAULT_CAPATH"))
	switch v := kw.Value("verify").(type) {
	case nil:
	case bool:
		c.InsecureSkipVerify = !v
	case string:
		authorities = cmp.Or(v, authorities)
	default:
		kw.Fail("verify",
			"expected true, false, or the path of a file or directory of certificates")
	}
	if authorities != "" && !c.InsecureSkipVerify {
		pool, err := certificatePool(authorities)
		if err != nil {
			kw.Fail("verify", "%v", err)
		}
		c.RootCAs = pool
	}
	if cert, key := certificate(kw); cert != "" {
		pair, err := keyPair(cert, cmp.Or(key, cert))
		if err != nil {
			kw.Fail("cert", "%v", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// keyPair reads the client's certificate and its key.
func keyPair(cert, key string) (tls.Certificate, error) {
	unreadable := errors.New("the certificate and its key cannot be read from there")
	if wrong := trust.Own().Check(cert, key); wrong != nil {
		return tls.Certificate{}, wrong
	}
	// What can be trusted stays so until it is read.
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, unreadable
	}
	return pair, nil
}

// certificate returns the files of the client's certificate and of its key, empty
// where one file holds both.
func certificate(kw *arguments.Object) (cert, key string) {
	switch v := kw.Value("cert").(type) {
	case nil:
		return os.Getenv("VAULT_CLIENT_CERT"), os.Getenv("VAULT_CLIENT_KEY")
	case string:
		return v, ""
	case []any:
		if len(v) == 2 {
			cert, ok := v[0].(string)
			key, ok2 := v[1].(string)
			if ok && ok2 {
				return cert, key
			}
		}
	}
	kw.Fail("cert",
		"expected the path of a PEM file, or a list of two: the certificate's and the key's")
	return "", ""
}

// maxCertificates is the largest file of certificates that is read, in bytes.
const maxCertificates = 16 << 20

// certificatePool reads the certificates of a PEM file, or of every file in a directory.
func certificatePool(path string) (*x509.CertPool, error) {
	unreadable := errors.New("no certificate can be read from there")
	var untrusted *trust.Error
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		files, _ = filepath.Glob(filepath.Join(path, "*"))
	}
	pool, found := x509.NewCertPool(), false
	for _, file := range files {
		text, _, err := regularfile.Read(file, 0, maxCertificates, trust.Own())
		if errors.As(err, &untrusted) {
			return nil, untrusted
		}
		if err == nil && pool.AppendCertsFromPEM(text) {
			found = true
		}
	}
	if !found {
		return nil, unreadable
	}
	return pool, nil
}
