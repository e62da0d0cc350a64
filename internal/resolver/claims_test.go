package resolver

import (
	"testing"

	"github.com/connfs/connfs/conn"
)

func TestAnswersClaimWhatTheirRequestAllows(t *testing.T) {
	for _, c := range []struct {
		name   string
		op     Op
		header Header
		ok     bool
	}{
		{"a value", OpGet, Header{OK: true, Digest: 7, Body: MaxValue}, true},
		{"an empty value", OpGet, Header{OK: true, Digest: 7}, true},
		{"too large a value", OpGet, Header{OK: true, Digest: 7, Body: MaxValue + 1}, false},
		{"a value that is not secret", OpGet, Header{OK: true, Body: 1}, false},
		{"logins", OpIdentity, Header{OK: true, Digest: 1, Body: MaxValue + 1}, true},
		{"a sealed value", OpSeal, Header{OK: true, Digest: 1, Body: MaxValue + 1}, true},
		{"a listing", OpList, Header{OK: true, Body: maxBody}, true},
		{"a secret listing", OpList, Header{OK: true, Digest: 1, Body: 1}, false},
		{"a secret state", OpReady, Header{OK: true, Digest: 1}, false},
		{"secret DAGs", OpDAGs, Header{OK: true, Digest: 1, Body: 1}, false},
		{"a failure", OpGet, Header{Kind: conn.Denied, Meta: 100}, true},
		{"a failure with a value", OpGet, Header{Kind: conn.Absent, Body: 1}, false},
		{"a failure with a digest", OpGet, Header{Kind: conn.Absent, Digest: 1}, false},
		{"a long reason", OpGet, Header{Kind: conn.Denied, Meta: maxFailure + 1}, false},
		{"a kind of the policy", OpGet, Header{Kind: conn.NotGranted}, false},
		{"a kind of the cache", OpGet, Header{Kind: conn.NoSlot}, false},
		{"a kind that is none", OpGet, Header{Kind: 200}, false},
	} {
		if err := c.header.check(c.op); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAnOriginIsThatOfTheConnectionThatWasAsked(t *testing.T) {
	want := Origin{Backend: "vault", KMS: "main", Key: "k"}
	for _, c := range []struct {
		name, of, id string
		ok           bool
	}{
		{"its own", "a\x00b\xff", "a\x00b\xff", true},
		{"another's", "A", "a", false},
		{"nobody's", "", "a", false},
	} {
		got, err := decodeOrigin(EncodeOrigin(c.of, want), c.id)
		if (err == nil) != c.ok || c.ok && got != want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestLinesOfChildrenAreBounded(t *testing.T) {
	var b budget
	start := b.since.Add(logEvery)
	taken := 0
	for range 10 * logLines {
		if b.take(start) {
			taken++
		}
	}
	if taken != logLines || !b.take(start.Add(logEvery)) {
		t.Errorf("%d lines at once, want %d, and more of them later", taken, logLines)
	}
	if got := printable("a\x1b[31m\u202eb\xff"); got != "a?[31m?b?" {
		t.Errorf("%q", got)
	}
}
