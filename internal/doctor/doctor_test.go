package doctor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
)

func TestACallThatNoReadNeedsIsAWarning(t *testing.T) {
	denied := conn.Check{Name: "aws_ssm", Call: "ssm:GetParameter", Err: &conn.Error{
		Kind: conn.Denied, Reason: "no policy allows it", Hint: "allow it",
	}}
	for only, want := range map[conn.Only]Finding{
		"":        {"fail", "aws_ssm", "ssm:GetParameter: denied: no policy allows it", "allow it"},
		"listing": {"warn", "aws_ssm", "ssm:GetParameter: denied: no policy allows it", "only listing (ls) needs this call; connections can be read without it"},
		"sealing": {"warn", "aws_ssm", "ssm:GetParameter: denied: no policy allows it", "only sealing needs this call; what is sealed already may still open"},
	} {
		denied.Only = only
		if diff := cmp.Diff(want, checkedFinding(denied)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", only, diff)
		}
	}
}
