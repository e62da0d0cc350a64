//go:build integration

package servers_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/integration/servers"
)

func TestFaultsInFrontOfMoto(t *testing.T) {
	m := servers.StartMoto(t)
	m.Populate("AmazonSSM.PutParameter", `{"Name": "/a", "Value": "value", "Type": "String"}`)
	p := servers.StartFaultProxy(t, m.URL)
	get := func() (status int, body string, err error) {
		r, err := http.NewRequest(http.MethodPost, p.URL, strings.NewReader(`{"Name": "/a"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", "AmazonSSM.GetParameter")
		r.Header.Set(
			"Authorization",
			"AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/ssm/aws4_request, "+
				"SignedHeaders=host, Signature=0",
		)
		client := http.Client{
			Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		}
		answer, err := client.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text), err
	}
	fails := func(status int, body string, err error) bool { return err != nil }
	found := func(status int, body string, err error) bool {
		return err == nil && status == 200 && strings.Contains(body, `"value"`)
	}
	for _, tc := range []struct {
		name  string
		fault servers.Fault
		want  func(status int, body string, err error) bool
	}{
		{"none", servers.Fault{}, found},
		{"another call's", servers.Fault{Call: "AmazonSSM.GetParameters", Hang: true}, found},
		{"hang", servers.Fault{Call: "AmazonSSM.*", Hang: true}, fails},
		{"reset", servers.Fault{Reset: true}, fails},
		{"cut", servers.Fault{Cut: 10}, fails},
		{"drip", servers.Fault{Drip: time.Millisecond}, found},
		{"delay", servers.Fault{Delay: 10 * time.Millisecond}, found},
		{"throttled", servers.Throttled(), func(status int, body string, err error) bool {
			return err == nil && status == 400 && strings.Contains(body, "ThrottlingException")
		}},
	} {
		p.Inject(tc.fault)
		if status, body, err := get(); !tc.want(status, body, err) {
			t.Errorf("%s: %d %q %v", tc.name, status, body, err)
		}
		p.Heal()
		if status, body, err := get(); !found(status, body, err) {
			t.Errorf("healed of %s: %d %q %v", tc.name, status, body, err)
		}
		if diff := cmp.Diff(map[string]int{"AmazonSSM.GetParameter": 2}, p.Calls()); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", tc.name, diff)
		}
	}
	p.Inject(servers.Fault{Reset: true, Times: 1})
	if status, body, err := get(); !fails(status, body, err) {
		t.Errorf("once: %d %q %v", status, body, err)
	}
	if status, body, err := get(); !found(status, body, err) {
		t.Errorf("after once: %d %q %v", status, body, err)
	}
	p.Down()
	if status, body, err := get(); !fails(status, body, err) {
		t.Errorf("down: %d %q %v", status, body, err)
	}
	p.Up()
	if status, body, err := get(); !found(status, body, err) {
		t.Errorf("up: %d %q %v", status, body, err)
	}
}
