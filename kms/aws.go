package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/awslogin"
)

// awsDirectLimit is the most that AWS KMS encrypts, in bytes.
const awsDirectLimit = 4096

// awsClient is AWS KMS.
type awsClient struct {
	key   string // of new sealed forms; may be empty
	login *awslogin.Login

	mu  sync.Mutex
	api map[string]*awskms.Client // by region; "" is the configured one
}

// region returns the SDK's client for a region. The clients of all regions share a login.
func (c *awsClient) region(ctx context.Context, region string) (*awskms.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if api := c.api[region]; api != nil {
		return api, nil
	}
	cfg, err := c.login.Config(ctx)
	if err != nil {
		return nil, err
	}
	if len(c.api) >= 32 { // sealed forms name regions, and anybody may have written them
		clear(c.api)
	}
	api := awskms.NewFromConfig(cfg, func(o *awskms.Options) {
		o.BaseEndpoint = c.login.Endpoint()
		o.Logger = logging.Nop{} // it would write to standard error
		if region != "" {
			o.Region = region
		}
	})
	c.api[region] = api
	return api, nil
}

var awsKind = &Kind{
	Type: "aws", Programs: true,
	Keys: []Key{
		{
			Name: "key", Sample: "alias/airflow",
			Help: "an id, ARN or alias of what encrypts; readers need no key",
		},
		{
			Name: "region", Check: checkRegion, Sample: "eu-central-1",
			Help: "this and the rest: by default what AWS's own tools take",
		},
		{Name: "profile", Sample: "airflow"},
		{
			Name: "credentials_file", Form: Path, Sample: "aws",
			Help: "a shared credentials file",
		},
		{
			Name: "role_arn", Sample: "arn:aws:iam::123456789012:role/airflow",
			Help: "a role to assume",
		},
		{
			Name: "external_id", Needs: "role_arn", Excludes: "web_identity_token_file",
			Sample: "connfs", Help: "of that role",
		},
		{
			Name: "endpoint", Check: checkURL,
			Sample: "https://kms.eu-central-1.amazonaws.com",
		},
		{
			Name: "web_identity_token_file", Form: Path, Needs: "role_arn",
			Sample: "/var/run/secrets/eks/token",
			Help:   "what to assume the role with",
		},
	},
	open: func(_ context.Context, s Settings) (Client, error) {
		return newAWSClient(s.Values["key"], awslogin.Settings{
			Region:          s.Values["region"],
			Profile:         s.Values["profile"],
			CredentialsFile: s.Values["credentials_file"],
			Endpoint:        s.Values["endpoint"],
			Role: awslogin.Role{
				ARN:                  s.Values["role_arn"],
				ExternalID:           s.Values["external_id"],
				WebIdentityTokenFile: s.Values["web_identity_token_file"],
			},
		}), nil
	},
	connType: "aws", openConnection: openAWSConnection,
}

// checkRegion says what is wrong with the name of a region.
func checkRegion(text string) error {
	if !awslogin.IsRegion(text) {
		return errors.New("it is not the name of a region, such as eu-central-1")
	}
	return nil
}

// checkURL says what is wrong with the URL of an endpoint.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("it is not a URL that begins with https:// or http://")
	}
	return nil
}

// newAWSClient returns the client of a KMS that seals with key, which may be empty.
func newAWSClient(key string, login awslogin.Settings) *awsClient {
	if login.Region == "" {
		login.Region = awsRegion(key)
	}
	return &awsClient{
		key: key, login: awslogin.New(login), api: make(map[string]*awskms.Client),
	}
}

// awsRegion returns the region in an ARN, and "" for any other name of a key. It becomes
// a part of the host that is asked, so it must be a plain name.
func awsRegion(key string) string {
	parts := strings.SplitN(key, ":", 6)
	if len(parts) == 6 && parts[0] == "arn" && parts[2] == "kms" && awslogin.IsRegion(parts[3]) {
		return parts[3]
	}
	return ""
}

// GenerateDataKey implements dataKeyer.
func (c *awsClient) GenerateDataKey(ctx context.Context, bound Context) ([]byte, Extra, error) {
	var out *awskms.GenerateDataKeyOutput
	err := c.call(ctx, c.key, func(ctx context.Context, api *awskms.Client) (err error) {
		out, err = api.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
			KeyId: &c.key, KeySpec: types.DataKeySpecAes256, EncryptionContext: bound,
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return out.Plaintext, awsExtra(out.KeyId, out.CiphertextBlob), nil
}

// Encrypt implements Client.
func (c *awsClient) Encrypt(ctx context.Context, plaintext []byte, bound Context) (Extra, error) {
	if len(plaintext) > awsDirectLimit {
		err := failed("the fields are %d bytes long, and AWS KMS encrypts %d at most",
			len(plaintext), awsDirectLimit)
		err.Hint = hintEnvelope
		return nil, err
	}
	var out *awskms.EncryptOutput
	err := c.call(ctx, c.key, func(ctx context.Context, api *awskms.Client) (err error) {
		out, err = api.Encrypt(ctx, &awskms.EncryptInput{
			KeyId: &c.key, Plaintext: plaintext, EncryptionContext: bound,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return awsExtra(out.KeyId, out.CiphertextBlob), nil
}

func awsExtra(arn *string, ciphertext []byte) Extra {
	return Extra{
		extraKey: aws.ToString(arn), extraCiphertext: base64.StdEncoding.EncodeToString(ciphertext),
	}
}

// Decrypt implements Client. It names the key. AWS would otherwise try every key that connfs
// may use, and so open what somebody else put there.
func (c *awsClient) Decrypt(ctx context.Context, extra Extra, bound Context) ([]byte, error) {
	key, ciphertext, err := extra.parts()
	if err != nil {
		return nil, err
	}
	if len(ciphertext) > 6144 {
		return nil, rejected("the ciphertext is longer than any of AWS KMS", hintChanged)
	}
	var out *awskms.DecryptOutput
	err = c.call(ctx, key, func(ctx context.Context, api *awskms.Client) (err error) {
		out, err = api.Decrypt(ctx, &awskms.DecryptInput{
			KeyId: &key, CiphertextBlob: ciphertext, EncryptionContext: bound,
		})
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case aws.ToString(out.KeyId) != key:
		// The form has an alias of the key, or its id. Those that connfs writes have the ARN.
		clear(out.Plaintext)
		return nil, rejected("the key now has another name than when this was sealed", hintChanged)
	}
	return out.Plaintext, nil
}

// call makes one call, in the region that the name of the key tells, if it tells one.
func (c *awsClient) call(
	ctx context.Context, key string, f func(context.Context, *awskms.Client) error,
) error {
	if key == "" {
		return &conn.Error{
			Kind: conn.Failed, Reason: "no key to seal with is configured",
			Hint: "set key: an ARN, an id, or alias/NAME",
		}
	}
	var last error
	err := c.login.Call(ctx, nil, func(ctx context.Context) error {
		api, err := c.region(ctx, awsRegion(key))
		if err != nil {
			return err
		}
		last = f(ctx, api)
		return last
	})
	if err == nil {
		return nil
	}
	return awsError(err, last)
}

// awsMeanings are the error codes that only AWS KMS has, or by which it means something else
// than other services. awslogin knows all others, the network and the HTTP status.
var awsMeanings = map[string]conn.Error{
	"DisabledException": {
		Kind: conn.KeyRejected, Reason: "the key is disabled",
		Hint: "enable it, or reseal with another one from a backup",
	},
	"KMSInvalidStateException": {
		Kind: conn.KeyRejected, Reason: "the key is pending deletion, or not usable in its state",
		Hint: "cancel the deletion while there is time",
	},
	"NotFoundException": {
		Kind: conn.KeyRejected, Reason: "there is no such key",
		Hint: "it was deleted, or the region or the account is another one",
	},
	"InvalidArnException": {
		Kind: conn.KeyRejected, Reason: "AWS KMS does not take the name of the key",
	},
	"InvalidKeyUsageException": {
		Kind: conn.KeyRejected, Reason: "the key is not one for encrypting and decrypting",
		Hint: "a symmetric key with the usage ENCRYPT_DECRYPT is needed",
	},
	"IncorrectKeyException": {
		Kind:   conn.KeyRejected,
		Reason: "the ciphertext was made by another key than kms_extra names", Hint: hintChanged,
	},
	"InvalidCiphertextException": {
		Kind: conn.KeyRejected, Reason: "the ciphertext does not open", Hint: hintMoved,
	},
	"KeyUnavailableException": {
		Kind: conn.Unreachable, Reason: "the key cannot be reached at the moment",
	},
	"InvalidGrantTokenException": {
		Kind: conn.Denied, Reason: "a grant of the key is not valid",
	},
	"UnsupportedOperationException": {
		Kind: conn.KeyRejected, Reason: "the key cannot do this",
		Hint: "a symmetric key with the usage ENCRYPT_DECRYPT is needed",
	},
	"XksKeyNotFoundException": {
		Kind: conn.KeyRejected, Reason: "the external key store has no such key",
	},
	"CustomKeyStoreNotFoundException": {
		Kind: conn.KeyRejected, Reason: "the key's custom key store is not there",
	},
}

// awsError returns the error of a call: by awsMeanings, if the service's last answer is in
// it, and otherwise as awslogin classified it.
func awsError(err, last error) error {
	if conn.KindOf(err) == conn.Timeout {
		return err
	}
	var api smithy.APIError
	if errors.As(last, &api) {
		if m, ok := awsMeanings[api.ErrorCode()]; ok {
			m.Err = last
			return &m
		}
		if api.ErrorCode() == "AccessDeniedException" {
			return &conn.Error{
				Kind: conn.Denied, Reason: "AWS refuses connfs the use of the key",
				Hint: "its policy and IAM must allow it, with kms:EncryptionContext as it is;" +
					" a key of another account answers the same",
				Err: last,
			}
		}
	}
	var e *conn.Error
	if errors.As(err, &e) && e.Kind == conn.Absent {
		with := *e
		with.Kind = conn.Failed
		return &with
	}
	return err
}

// calls implements calls.
func (c *awsClient) calls() (encrypt, decrypt string) {
	return "kms:GenerateDataKey", "kms:Decrypt"
}

// Identity implements successor.
func (c *awsClient) Identity() []byte { return c.login.Identity() }

// Adopt implements successor.
func (c *awsClient) Adopt(identity []byte) { c.login.Adopt(identity) }

// Close implements io.Closer.
func (c *awsClient) Close() error { return c.login.Close() }

// openAWSConnection makes the client of an Airflow connection of type aws, whose keys are
// Airflow's own besides kms_key and kms_mode.
func openAWSConnection(_ context.Context, c *conn.Connection) (Client, string, error) {
	values, err := extraOf(c)
	if err != nil {
		return nil, "", err
	}
	extra := arguments.New(values)
	key, mode := extra.Text(connectionKey, ""), takeMode(extra)
	externalID := extra.Text("external_id", "")
	endpoint, err := serviceEndpoint(values, "kms")
	if err != nil {
		extra.Add(err)
	}
	s := awslogin.FromArguments(extra)
	if c.Login != nil && *c.Login != "" {
		s.AccessKeyID, s.SecretAccessKey = *c.Login, ""
		if password, _ := c.Password.Reveal(); password != "" {
			s.SecretAccessKey = password
		} else {
			extra.Add(errors.New(
				"there is a login, an access key, without a password, its secret key"))
		}
	}
	detours := s.Detours()
	if endpoint != "" {
		s.Endpoint = endpoint
		detours = append(detours, "service_config.kms.endpoint_url")
	}
	if s.AccessKeyID == "" {
		// Whoever can write the connection would get requests that connfs signs with the
		// identity of the machine.
		for _, name := range detours {
			extra.Fail(name, "a connection without an access key of its own cannot set it")
		}
	}
	if externalID != "" {
		s.Role.ExternalID = externalID
	}
	if s.Role.WebIdentityTokenFile != "" {
		// Somebody who can write a connection could have connfs send any file anywhere.
		extra.Fail("assume_role_method", "only a [kms.NAME] can use a web identity")
	}
	if err := extra.Err(); err != nil {
		return nil, "", err
	}
	return newAWSClient(key, s), mode, nil
}

// serviceEndpoint returns the endpoint that Airflow's service_config has for one service.
func serviceEndpoint(extra map[string]any, service string) (string, error) {
	all, _ := extra["service_config"].(map[string]any)
	one, _ := all[service].(map[string]any)
	text, ok := one["endpoint_url"].(string)
	if one["endpoint_url"] == nil || ok &&
		(strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")) {
		return text, nil
	}
	return "", errors.New("service_config." + service +
		".endpoint_url: expected a URL that begins with http:// or https://")
}
