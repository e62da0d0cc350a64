package servers

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Moto is a moto server: it speaks for SSM, Secrets Manager, KMS, STS and IAM, keeps
// what it is told in memory, and is empty at first. Any access key does until
// [Moto.CheckAuth].
type Moto struct {
	*process
	URL string // http://127.0.0.1:PORT, for every service
}

// StartMoto starts a server that t stops at its end.
func StartMoto(t testing.TB) *Moto {
	t.Helper()
	path := filepath.Join(cache(), "moto-5.2.5/bin/moto_server")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	a := accountNamed(t, "nobody", "base-passwd")
	port := freePort(t)
	m := &Moto{URL: fmt.Sprintf("http://%s:%d", loopback, port)}
	m.process = &process{
		t: t, account: a, path: path, args: []string{"-H", loopback, "-p", strconv.Itoa(port)},
		log: filepath.Join(a.dir(t), "log"),
		ready: func() error {
			answer, err := http.Get(m.URL + "/moto-api/data.json")
			if err == nil {
				answer.Body.Close()
			}
			return err
		},
	}
	t.Cleanup(func() { m.end(syscall.SIGKILL) })
	m.start()
	return m
}

// Reset empties the server and lets any access key do again.
func (m *Moto) Reset() {
	m.t.Helper()
	m.CheckAuth(false)
	post(m.t, m.URL+"/moto-api/reset", "", "")
}

// CheckAuth makes the server check signatures and IAM policies, or not. It honours
// the actions of a policy, and knows no resource but "*".
func (m *Moto) CheckAuth(on bool) {
	m.t.Helper()
	requests := "inf"
	if on {
		requests = "0"
	}
	post(m.t, m.URL+"/moto-api/reset-auth", "", requests)
}

// Populate posts the body, JSON, of an operation such as "AmazonSSM.PutParameter", in
// the region eu-west-1, and returns the answer.
func (m *Moto) Populate(target, body string) string {
	m.t.Helper()
	return post(m.t, m.URL, target, body)
}

// post posts to a server that speaks for AWS, which checks no signature, and returns the
// answer.
func post(t testing.TB, url, target, body string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		// The servers take the service and the region from here.
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/"+
			service(target)+"/aws4_request, SignedHeaders=host, Signature=0")
	}
	client := http.Client{Timeout: startTimeout}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %v\n%.500s", cmp.Or(target, url), answer.Status, err, text)
	}
	return string(text)
}

// service returns the service of a target as signatures name it.
func service(target string) string {
	name, _, _ := strings.Cut(target, ".")
	switch name {
	case "AmazonSSM":
		return "ssm"
	case "TrentService":
		return "kms"
	}
	return name
}

// Stop ends the server, which forgets everything.
func (m *Moto) Stop() { m.t.Helper(); m.end(syscall.SIGKILL) }

// Start starts the server again after [Moto.Stop], on the same port.
func (m *Moto) Start() { m.t.Helper(); m.start() }

// cache is where scripts/setup puts what is not a Debian package.
func cache() string { return cmp.Or(os.Getenv("CONNFS_TEST_CACHE"), "/opt/connfs-test") }
