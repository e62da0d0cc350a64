package kms

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
)

const good = `{"connfs_sealed": 1, "kms_conn_id": "main", "kms_type": "local", ` +
	`"mode": "envelope", "fields": "extra,password",` +
	` "kms_extra": {"key": "k", "ciphertext": "AAAA"}, "payload": "AAAA"}`

func TestWhatIsNoSealedFormIsRefusedWithReason(t *testing.T) {
	if _, err := parseForm(good); err != nil {
		t.Fatal(err)
	}
	oneMore := [2]string{`"payload"`, `"extra__smtp__x": false, "payload"`}
	twoMore := [2]string{`"payload"`, `"b": false, "a": null, "payload"`}
	for change, want := range map[[2]string]string{
		{good, ``}:     "not one JSON object",
		{good, `[]`}:   "not one JSON object",
		{good, `null`}: "connfs_sealed is missing",
		{good, `{}`}:   "connfs_sealed is missing",
		{"1,", "1"}:    "not one JSON object",
		{"1,", "2,"}: "of version 2, and this connfs reads version 1 only " +
			"(a newer connfs may have written it)",
		{"1,", "1.0,"}:                  "its version is not a number",
		{"1,", "null,"}:                 "its version is not a number",
		{"1,", "true,"}:                 "its version is not a number",
		{"1,", "-1,"}:                   "its version is not a number",
		{"1,", `{},`}:                   "its version is not a number",
		{"1,", "12345678901234567890,"}: "its version is not a number",
		{`"main"`, `"\xff"`}:            "not UTF-8",
		{`"main"`, "NaN"}:               "not one JSON object",
		{`"main"`, "null"}:              "kms_conn_id is not a text",
		{`"main"`, "1"}:                 "kms_conn_id is not a text",
		{`"main"`, `["main"]`}:          "kms_conn_id is not a text",
		{`"main"`, `{"main": 1}`}:       "kms_conn_id is not a text",
		{`"main",`, `"main", "kms_conn_id": "main",`}:      `the key "kms_conn_id" occurs twice`,
		{`"main",`, `"main", "kms_conn\u005fid": "main",`}: `the key "kms_conn_id" occurs twice`,
		{`"key": "k"`, `"key": "k", "key": "k"`}:           `the key "key" occurs twice`,
		{`{"connfs`, `{"connfs_sealed": 1, "connfs`}:       `the key "connfs_sealed" occurs twice`,
		{`{"key": "k",`, `{"key": {"key": "k"},`}:          `in kms_extra, "key" is not a text`,
		{`"key": "k"`, `"key": 1`}:                         `in kms_extra, "key" is not a text`,
		{`"AAAA"}`, `"AAAA"} x`}:                           "not one JSON object",
		{`"payload": "AAAA"`, `"payload": "AAA"`}:          "payload is missing or not base64",
		{`"payload": "AAAA"`, `"payload": "AA\nAA"`}:       "payload is missing or not base64",
		{`"payload": "AAAA"`, `"payload": "AAB="`}:         "payload is missing or not base64",
		{`"payload": "AAAA"`, `"payload": ""`}:             "payload is missing or not base64",
		{`"payload": "AAAA"`, `"payload": "A-_A"`}:         "payload is missing or not base64",
		{`"payload": "AAAA"`, `"Payload": "AAAA"`}:         "payload is missing",
		{`"envelope"`, `"direct"`}:                         "direct, which has no payload",
		{`"envelope"`, `"Envelope"`}:                       `the mode "Envelope" is neither`,
		{`"envelope"`, `"\u001b[31m\n"`}:                   `the mode "\x1b[31m\n" is neither`,

		oneMore: `the key "extra__smtp__x" is not one of a sealed form (take out of the extra`,
		twoMore: `the keys "a", "b" are not of a sealed form (take out`,

		{`"extra,password"`, `"extra,***"`}:       `"fields" holds *** (Airflow masked`,
		{`"main"`, `"***"`}:                       `"kms_conn_id" holds ***`,
		{`"k"`, `"arn:***:1"`}:                    `in kms_extra, "key" holds ***`,
		{`"extra,password"`, `"extra,,password"`}: "no field of a connection",
		{`"extra,password"`, `"extra, password"`}: "no field of a connection",
		{`"extra,password"`, `"password"`}:        "extra is not among the fields",
		{`"extra,password"`, `"password,extra"`}:  "not in order",
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%q changes nothing", change)
		}
		text = strings.ReplaceAll(text, `\xff`, "\xff")
		_, err := parseForm(text)
		if err == nil || conn.KindOf(err) != conn.Invalid || !strings.Contains(err.Error(), want) ||
			strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s:\n%v, want %s", text, err, want)
		}
	}
}

func TestRegionOfAnARNIsAPlainName(t *testing.T) {
	for key, want := range map[string]string{
		"arn:aws:kms:eu-west-1:1:key/k":              "eu-west-1",
		"arn:aws-us-gov:kms:us-gov-west-1:1:alias/a": "us-gov-west-1",
		"arn:aws:kms:evil.example/:1:key/k":          "", "arn:aws:kms:a@b:1:key/k": "",
		"arn:aws:ssm:eu-west-1:1:key/k": "", "alias/a": "", "": "",
	} {
		if got := awsRegion(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

// FuzzParseSealed reads whatever it is given: a form, or an error of one kind. What is a
// form can be written, and reads back as the same.
func FuzzParseSealed(f *testing.F) {
	f.Add(good)
	f.Add(strings.Replace(good, `"payload": "AAAA"`, `"x": [{}]`, 1))
	f.Add(`{"connfs_sealed":1,"kms_conn_id":"é","kms_type":"aws","mode":"direct",` +
		`"fields":"extra","kms_extra":{}}`)
	f.Add(`{"connfs_sealed": 2}`)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseForm(text)
		if err != nil {
			if conn.KindOf(err) != conn.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		if !conn.IsSealed(text) {
			t.Fatal("the rest of connfs does not take it for a sealed form")
		}
		again, err := parsed.text()
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseForm(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if diff := cmp.Diff(parsed, back); diff != "" {
			t.Fatalf("(-read +reread):\n%s", diff)
		}
		if string(parsed.aad("id", "")) == string(parsed.aad("id2", "")) {
			t.Fatal("two ids have one AAD")
		}
	})
}

// FuzzCanonical holds the canonical form of two maps against each other: they are the
// same only where the maps are.
func FuzzCanonical(f *testing.F) {
	f.Add("a", "1:b,", "a1", "b")
	f.Add("", "", "", "0:,")
	f.Fuzz(func(t *testing.T, name1, text1, name2, text2 string) {
		one := map[string]string{name1: text1, "conn_id": "x"}
		two := map[string]string{name2: text2, "conn_id": "x"}
		if cmp.Equal(one, two) != (string(canonical(one)) == string(canonical(two))) {
			t.Fatalf("%q and %q", canonical(one), canonical(two))
		}
	})
}
