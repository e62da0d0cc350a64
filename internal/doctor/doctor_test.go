package doctor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
)

func TestAFailedCallThatNoReadNeedsIsAWarning(t *testing.T) {
	const subject, message = "aws_ssm", "ssm:GetParameter: denied: no policy allows it"
	denied := conn.Check{Name: subject, Call: "ssm:GetParameter", Err: &conn.Error{
		Kind: conn.Denied, Reason: "no policy allows it", Hint: "allow it",
	}}
	for only, want := range map[conn.Only]Finding{
		"": {"fail", subject, message, "allow it"},
		"listing": {"warn", subject, message,
			"only listing (ls) needs this call; connections can be read without it"},
		"sealing": {"warn", subject, message,
			"only sealing needs this call; sealed connections may open without it"},
	} {
		denied.Only = only
		if diff := cmp.Diff(want, failedCall(denied)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", only, diff)
		}
	}
}

func TestReportsKeepTheirOrder(t *testing.T) {
	var r report
	r.ok("a", "%d of %d", 1, 2)
	r.warn("b", "do this", "%s", "100%")
	r.fail("c", "", "it is wrong")
	want := []Finding{
		{"ok", "a", "1 of 2", ""}, {"warn", "b", "100%", "do this"},
		{"fail", "c", "it is wrong", ""},
	}
	if diff := cmp.Diff(want, r.findings); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
