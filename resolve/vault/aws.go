package vault

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
)

// authAWS is the login of Vault's AWS auth method of type iam: a signed request to STS,
// which Vault sends there itself to learn who signed it.
func authAWS(a *auth, kw *arguments.Object) {
	role, region := kw.Text("role_id", ""), kw.Text("region", "")
	key, secret := kw.Text("key_id", ""), kw.Text("secret_id", "")
	assume := assumeRole(kw)
	a.body = func(ctx context.Context) (map[string]any, error) {
		credentials, home, err := awsIdentity(ctx, key, secret, assume)
		if err != nil {
			return nil, err
		}
		for _, r := range []string{region, home, "us-east-1"} {
			if r != "" {
				return signedIdentity(ctx, credentials, r, role, time.Now())
			}
		}
		return nil, nil
	}
}

// assumeRole reads assume_role_kwargs, the arguments of boto3's assume_role; nil where
// there are none.
func assumeRole(kw *arguments.Object) *sts.AssumeRoleInput {
	const name = "assume_role_kwargs"
	given := kw.Map(name)
	if len(given) == 0 {
		return nil
	}
	in := &sts.AssumeRoleInput{}
	texts := map[string]**string{
		"ExternalId": &in.ExternalId, "Policy": &in.Policy, "RoleArn": &in.RoleArn,
		"RoleSessionName": &in.RoleSessionName, "SourceIdentity": &in.SourceIdentity,
	}
	for key, v := range given {
		text, isText := v.(string)
		number, isNumber := v.(json.Number)
		seconds, err := strconv.ParseInt(number.String(), 10, 32)
		switch {
		case texts[key] != nil && isText:
			*texts[key] = &text
		case key == "DurationSeconds" && isNumber && err == nil:
			in.DurationSeconds = aws.Int32(int32(seconds))
		default:
			kw.Fail(name, "connfs knows DurationSeconds, ExternalId, Policy, RoleArn, "+
				"RoleSessionName and SourceIdentity, and not %q in this form", key)
		}
	}
	if in.RoleArn == nil || in.RoleSessionName == nil {
		kw.Fail(name, "RoleArn and RoleSessionName are needed")
	}
	return in
}

// awsIdentity returns the credentials that sign the login, and their usual region, which
// may be empty.
func awsIdentity(ctx context.Context, key, secret string, assume *sts.AssumeRoleInput) (
	aws.Credentials, string, error) {
	if key != "" && secret != "" {
		return aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, "", nil
	}
	failed := func(cause error) error {
		return &conn.Error{
			Kind: conn.Denied, Reason: "AWS gives no credentials to sign the login with",
			Hint: "give key_id and secret_id, or let connfs's children have the AWS_* variables " +
				"or the role of the machine", Err: cause,
		}
	}
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return aws.Credentials{}, "", failed(err)
	}
	if assume == nil {
		credentials, err := loaded.Credentials.Retrieve(ctx)
		if err != nil {
			return aws.Credentials{}, "", failed(err)
		}
		return credentials, loaded.Region, nil
	}
	if loaded.Region == "" {
		loaded.Region = "us-east-1"
	}
	out, err := sts.NewFromConfig(loaded).AssumeRole(ctx, assume)
	if err != nil || out.Credentials == nil {
		return aws.Credentials{}, "", failed(err)
	}
	c := out.Credentials
	return aws.Credentials{
		AccessKeyID: aws.ToString(c.AccessKeyId), SecretAccessKey: aws.ToString(c.SecretAccessKey),
		SessionToken: aws.ToString(c.SessionToken),
	}, loaded.Region, nil
}

// signedIdentity returns the body of the login: the parts of a signed GetCallerIdentity.
// Its address is the global one whatever the region, as in Airflow.
func signedIdentity(ctx context.Context, credentials aws.Credentials, region, role string,
	now time.Time) (map[string]any, error) {
	const url, form = "https://sts.amazonaws.com/", "Action=GetCallerIdentity&Version=2011-06-15"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(form))
	if err != nil {
		return nil, conn.Errorf(conn.Failed, "", "the login's request cannot be made")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	hash := sha256.Sum256([]byte(form))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(hash[:]), "sts",
		region, now); err != nil {
		return nil, conn.Errorf(conn.Denied, "", "the login's request cannot be signed")
	}
	headers := r.Header.Clone()
	headers.Set("Host", r.URL.Host)
	headers.Set("Content-Length", strconv.Itoa(len(form)))
	text, err := json.Marshal(headers)
	if err != nil {
		return nil, conn.Errorf(conn.Failed, "", "the login's request cannot be written")
	}
	encode := base64.StdEncoding.EncodeToString
	body := map[string]any{
		"iam_http_request_method": http.MethodPost, "iam_request_url": encode([]byte(url)),
		"iam_request_headers": encode(text), "iam_request_body": encode([]byte(form)), "role": nil,
	}
	if role != "" {
		body["role"] = role
	}
	return body, nil
}
