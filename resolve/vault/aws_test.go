package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The signature of the login is computed anew, step by step as AWS documents it.
func TestAWSLoginIsSigned(t *testing.T) {
	for region, want := range map[string]string{"": "us-east-1", "eu-west-1": "eu-west-1"} {
		f := newFakeVault()
		kwargs := map[string]any{"auth_type": "aws_iam", "key_id": "AKID", "secret_id": "hunter2",
			"role_id": "r", "region": region}
		if _, err := f.open(t, kwargs).Connection(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		var body map[string]string
		if err := json.Unmarshal([]byte(f.bodies[0]), &body); err != nil {
			t.Fatal(err)
		}
		part := func(name string) string {
			text, err := base64.StdEncoding.DecodeString(body[name])
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		var headers http.Header
		if err := json.Unmarshal([]byte(part("iam_request_headers")), &headers); err != nil {
			t.Fatal(err)
		}
		if f.asked[0].URL.Path != "/v1/auth/aws/login" || body["role"] != "r" ||
			body["iam_http_request_method"] != "POST" ||
			part("iam_request_url") != "https://sts.amazonaws.com/" {
			t.Errorf("%s %v", f.asked[0].URL.Path, body)
		}
		given := headers.Get("Authorization")
		_, rest, _ := strings.Cut(given, "SignedHeaders=")
		signed, signature, _ := strings.Cut(rest, ", Signature=")
		date := headers.Get("X-Amz-Date")
		scope := date[:8] + "/" + want + "/sts/aws4_request"
		canonical := "POST\n/\n\n"
		for _, name := range strings.Split(signed, ";") {
			canonical += name + ":" + headers.Get(name) + "\n"
		}
		canonical += "\n" + signed + "\n" + hexHash(part("iam_request_body"))
		key := []byte("AWS4hunter2")
		for _, step := range []string{date[:8], want, "sts", "aws4_request",
			"AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + hexHash(canonical)} {
			h := hmac.New(sha256.New, key)
			h.Write([]byte(step))
			key = h.Sum(nil)
		}
		if hex.EncodeToString(key) != signature ||
			!strings.Contains(given, "Credential=AKID/"+scope) ||
			!strings.Contains(signed, "host") {
			t.Errorf("region %q: the signature over %s is another one", region, signed)
		}
		if strings.Contains(f.bodies[0], "hunter2") {
			t.Error("the key is sent")
		}
	}
}

func hexHash(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}
