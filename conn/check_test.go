package conn_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
)

func TestChecksRoundTripWithoutCauses(t *testing.T) {
	cause := errors.New("hunter2")
	checks := []conn.Check{
		{Name: "aws_ssm", Call: "ssm:GetParameter"},
		{Name: "aws_ssm", Call: "ssm:DescribeParameters", Only: conn.OnlyListing, Err: &conn.Error{
			Kind: conn.Denied, Source: "aws_ssm", Reason: "no policy allows it", Hint: "allow it",
			Err: cause,
		}},
		{Name: "exec", Call: "check", Err: cause},
	}
	text, err := json.Marshal(checks)
	if err != nil || strings.Contains(string(text), "hunter2") {
		t.Fatalf("%s, %v", text, err)
	}
	var got []conn.Check
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	checks[1].Err.(*conn.Error).Err = nil
	checks[2].Err = &conn.Error{Kind: conn.Failed}
	same := cmp.Comparer(func(a, b *conn.Error) bool { return *a == *b })
	if diff := cmp.Diff(checks, got, same); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
