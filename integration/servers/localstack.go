package servers

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// LocalStack is LocalStack's KMS and STS: a second reference where moto's KMS is wrong.
// It accepts any access key.
type LocalStack struct {
	*process
	URL string // http://127.0.0.1:PORT, for both services
}

// StartLocalStack starts a server that t stops at its end. It takes some twenty seconds.
func StartLocalStack(t testing.TB) *LocalStack {
	t.Helper()
	python := filepath.Join(cache(), "localstack-4.9.2/bin/python")
	if _, err := os.Stat(python); err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	a := accountNamed(t, "nobody", "base-passwd")
	dir := a.dir(t)
	port := freePort(t)
	s := &LocalStack{URL: fmt.Sprintf("http://%s:%d", loopback, port)}
	s.process = &process{
		t: t, account: a, path: "/usr/bin/env", log: filepath.Join(dir, "log"),
		args: []string{
			// In a container LocalStack would take it for its own image, and write to its paths.
			"OVERRIDE_IN_DOCKER=0", "SERVICES=kms,sts", "EAGER_SERVICE_LOADING=1",
			fmt.Sprintf("GATEWAY_LISTEN=%s:%d", loopback, port), "DISABLE_EVENTS=1",
			"SKIP_SSL_CERT_DOWNLOAD=1", "DNS_ADDRESS=0", "HOME=" + dir, "FILESYSTEM_ROOT=" + dir,
			python, "-m", "localstack.runtime.main",
		},
		ready: func() error {
			answer, err := http.Get(s.URL + "/_localstack/health")
			if err == nil {
				answer.Body.Close()
			}
			return err
		},
	}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	s.start()
	return s
}

// Populate posts the body, JSON, of an operation such as "TrentService.CreateKey", in the
// region eu-west-1, and returns the answer.
func (s *LocalStack) Populate(target, body string) string {
	s.t.Helper()
	return post(s.t, s.URL, target, body)
}
