package kms

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	gcpkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/googlelogin"
	"github.com/connfs/connfs/internal/network"
)

// gcpClient is Google Cloud KMS. Ciphertexts are bound to the resource name of the key
// besides the context.
type gcpClient struct {
	key      string // of new sealed forms, a key or a version of one; may be empty
	endpoint string // host:port; empty: Google's own
	login    *googlelogin.Login

	mu  sync.Mutex
	api *gcpkms.KeyManagementClient // nil: there was no call yet
}

// gcpDirectLimit is the most that a software key of Google's encrypts, in bytes.
const gcpDirectLimit = 64 << 10

// gcpName is the resource name of a key, and of a version of it.
var gcpName = regexp.MustCompile(`^(projects/[^/\s]+/locations/[a-zA-Z0-9-]+` +
	`/keyRings/[a-zA-Z0-9_-]{1,63}/cryptoKeys/[a-zA-Z0-9_-]{1,63})` +
	`(/cryptoKeyVersions/[0-9]+)?$`)

var gcpKind = &Kind{
	Type: "gcp", Programs: true,
	Keys: []Key{
		{
			Name: "key", Check: checkGCPKey,
			Sample: "projects/p/locations/global/keyRings/airflow/cryptoKeys/connections",
		},
		{
			Name: "credentials_file", Form: SecretFile,
			Sample: "gcp.json", Help: "a JSON key file; without it the identity of the machine",
		},
		{
			Name: "endpoint", Check: checkHostPort,
			Sample: "cloudkms.googleapis.com:443",
		},
	},
	open: func(_ context.Context, s Settings) (Client, error) {
		content, err := s.content("credentials_file", readFile)
		if err != nil {
			return nil, err
		}
		return newGCPClient(s.Values["key"], s.Values["endpoint"], content, gcpFileTypes)
	},
	connType: "google_cloud_platform", openConnection: openGCPConnection,
}

func checkGCPKey(name string) error {
	if !gcpName.MatchString(name) {
		return errors.New("it is not of the form projects/P/locations/L/keyRings/R/cryptoKeys/K," +
			" or that and /cryptoKeyVersions/N")
	}
	return nil
}

func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || port == "" || strings.Trim(port, "0123456789") != "" {
		return errors.New("it is not of the form host:port")
	}
	return nil
}

// The types of credentials that are taken. Those that name a program to run, or an address to
// ask, are for files of the configuration only.
var (
	gcpKeyTypes  = []google.CredentialsType{google.ServiceAccount, google.AuthorizedUser}
	gcpFileTypes = append(slices.Clip(gcpKeyTypes),
		google.ImpersonatedServiceAccount, google.ExternalAccount)
)

// newGCPClient returns the client of a KMS that seals with key, which may be empty. The
// credentials are the content of a JSON key file of one of the types. Without them they are
// the application default ones, but an endpoint on this machine gets none.
func newGCPClient(
	key, endpoint string, credentials []byte, types []google.CredentialsType,
) (Client, error) {
	c := &gcpClient{key: key, endpoint: endpoint}
	if len(credentials) == 0 && loopback(endpoint) {
		c.login = googlelogin.Anonymous()
		return c, nil
	}
	tag := sha256.Sum256(credentials)
	login := googlelogin.Credentials{
		SelfSigned: true, Tag: hex.EncodeToString(tag[:]),
		Hint: "credentials_file, GOOGLE_APPLICATION_CREDENTIALS," +
			" or a service account of the machine",
	}
	if len(credentials) > 0 {
		if err := checkGCPCredentials(credentials, types); err != nil {
			return nil, err
		}
		login.Read = func() ([]byte, error) { return credentials, nil }
	}
	c.login = googlelogin.New(login)
	return c, nil
}

// loopback reports whether a host:port is this machine and no other, so that nothing
// needs to be encrypted on the way.
func loopback(endpoint string) bool {
	host, _, err := net.SplitHostPort(endpoint)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// checkGCPCredentials returns an error unless the credentials are of one of the types.
func checkGCPCredentials(credentials []byte, types []google.CredentialsType) error {
	var file struct {
		Type google.CredentialsType `json:"type"`
	}
	if json.Unmarshal(credentials, &file) != nil {
		return &conn.Error{Kind: conn.Denied, Reason: "the credentials are not a JSON key file"}
	}
	if !slices.Contains(types, file.Type) {
		return &conn.Error{
			Kind: conn.Denied, Reason: "the credentials are of a type that is not taken here",
			Hint: "use the key of a service account",
		}
	}
	return nil
}

// dial returns the SDK's client, in the universe of the credentials: the domain of Google's
// services, which is not the public one for every customer.
func (c *gcpClient) dial(universe string) (*gcpkms.KeyManagementClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.api != nil {
		return c.api, nil
	}
	// Each call carries its token itself; see googlelogin.
	options := []option.ClientOption{
		option.WithTelemetryDisabled(), option.WithoutAuthentication(),
	}
	switch {
	case c.endpoint != "":
		options = append(options, option.WithEndpoint(c.endpoint))
	case universe != "":
		options = append(options, option.WithUniverseDomain(universe))
	}
	if loopback(c.endpoint) {
		options = append(options,
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	api, err := gcpkms.NewKeyManagementClient(context.Background(), options...)
	if err != nil {
		return nil, &conn.Error{
			Kind: conn.Failed, Reason: "no client can be made for the endpoint", Err: err,
		}
	}
	// gcpClient.call repeats calls, within their deadline.
	api.CallOptions = &gcpkms.KeyManagementCallOptions{}
	c.api = api
	return api, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, castagnoli)))
}

// hasChecksum reports whether the bytes came with their checksum.
func hasChecksum(b []byte, sum *wrapperspb.Int64Value) bool {
	return sum != nil && sum.Value == checksum(b).Value
}

// gcpCorrupted is the error of an answer, or of a request, whose bytes changed on the way. The
// call is made again.
var gcpCorrupted = status.Error(codes.Unavailable, "checksum")

// Encrypt implements Client.
func (c *gcpClient) Encrypt(ctx context.Context, plaintext []byte, bound Context) (Extra, error) {
	parts := gcpName.FindStringSubmatch(c.key)
	if parts == nil {
		return nil, &conn.Error{
			Kind: conn.Failed, Reason: "no key to seal with is configured",
			Hint: "set key: projects/P/locations/L/keyRings/R/cryptoKeys/K",
		}
	}
	if len(plaintext) > gcpDirectLimit {
		err := failed("the fields are %d bytes long, and Google Cloud KMS encrypts %d at most",
			len(plaintext), gcpDirectLimit)
		err.Hint = hintEnvelope
		return nil, err
	}
	aad := gcpAAD(bound, parts[1])
	var out *kmspb.EncryptResponse
	err := c.call(ctx, func(ctx context.Context, api *gcpkms.KeyManagementClient) (err error) {
		out, err = api.Encrypt(ctx, &kmspb.EncryptRequest{
			Name: c.key, Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext),
			AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: checksum(aad),
		})
		switch {
		case err != nil:
			return err
		case !out.VerifiedPlaintextCrc32C, !out.VerifiedAdditionalAuthenticatedDataCrc32C,
			!hasChecksum(out.Ciphertext, out.CiphertextCrc32C):
			return gcpCorrupted
		}
		return nil
	})
	if status.Code(errors.Unwrap(err)) == codes.InvalidArgument {
		// The table has what this means of a ciphertext, and here nothing is encrypted yet.
		return nil, &conn.Error{
			Kind: conn.Failed, Reason: "Google does not take the call",
			Hint: "an HSM key encrypts 8 KiB at most: " + hintEnvelope, Err: err,
		}
	}
	if err != nil {
		return nil, err
	}
	// The version that Google chose is in the ciphertext; a key is named without one.
	if used := gcpName.FindStringSubmatch(out.Name); used == nil || used[1] != parts[1] {
		return nil, failed(
			"the service encrypted with another key than the one that it was asked for",
		)
	}
	return Extra{
		extraKey: parts[1], extraCiphertext: base64.StdEncoding.EncodeToString(out.Ciphertext),
	}, nil
}

// Decrypt implements Client.
func (c *gcpClient) Decrypt(ctx context.Context, extra Extra, bound Context) ([]byte, error) {
	key, ciphertext, err := extra.parts()
	if err != nil {
		return nil, err
	}
	if parts := gcpName.FindStringSubmatch(key); parts == nil || parts[2] != "" {
		return nil, rejected("kms_extra does not name a key of Google's", hintChanged)
	}
	aad := gcpAAD(bound, key)
	var out *kmspb.DecryptResponse
	err = c.call(ctx, func(ctx context.Context, api *gcpkms.KeyManagementClient) (err error) {
		out, err = api.Decrypt(ctx, &kmspb.DecryptRequest{
			Name: key, Ciphertext: ciphertext, CiphertextCrc32C: checksum(ciphertext),
			AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: checksum(aad),
		})
		if err == nil && !hasChecksum(out.Plaintext, out.PlaintextCrc32C) {
			clear(out.Plaintext)
			return gcpCorrupted
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// gcpAAD returns the additional authenticated data: the context and the name of the key. The
// same key has two names, with the id and with the number of its project; a sealed form opens
// with the one that it was made with.
func gcpAAD(bound Context, key string) []byte {
	all := maps.Clone(bound)
	all[extraKey] = key
	return canonical(all)
}

// gcpAgain are the answers after which a call is made again.
var gcpAgain = []codes.Code{codes.Unavailable, codes.ResourceExhausted}

// call makes one call, and repeats it where that may help and ctx leaves the time.
func (c *gcpClient) call(
	ctx context.Context, f func(context.Context, *gcpkms.KeyManagementClient) error,
) error {
	call := func(ctx context.Context, token *googlelogin.Token) error {
		api, err := c.dial(token.Universe)
		if err != nil {
			return err
		}
		return f(ctx, api)
	}
	err := c.login.Call(ctx, gcpAgain, call)
	if err == nil {
		return nil
	}
	if e := interrupted(ctx); e != nil {
		e.Err = err
		return e
	}
	return gcpError(err)
}

// gcpMeanings are the answers of Google Cloud KMS, by gRPC code. Google's own texts are not
// shown, because they quote names.
var gcpMeanings = map[codes.Code]conn.Error{
	codes.PermissionDenied: {
		Kind: conn.Denied, Reason: "Google refuses connfs the use of the key",
		Hint: "roles/cloudkms.cryptoKeyDecrypter on the key reads, cryptoKeyEncrypterDecrypter " +
			"also seals; a key that is not there may answer the same",
	},
	codes.Unauthenticated: {
		Kind: conn.Denied, Reason: "Google does not take the credentials of connfs",
	},
	codes.NotFound: {
		Kind: conn.KeyRejected, Reason: "there is no such key",
		Hint: "the project, location or key ring is another one, or its API is not enabled",
	},
	codes.FailedPrecondition: {
		Kind:   conn.KeyRejected,
		Reason: "the key version is disabled, destroyed or not one for encrypting",
		Hint:   "enable or restore it while there is time",
	},
	codes.InvalidArgument: {
		Kind: conn.KeyRejected, Reason: "the ciphertext does not open", Hint: hintMoved,
	},
	codes.ResourceExhausted: {
		Kind: conn.Unreachable, Reason: "Google throttled the call: there are too many of them",
	},
	codes.Unavailable: {Kind: conn.Unreachable, Reason: "the service is not available"},
	codes.Internal: {
		Kind:   conn.Unreachable,
		Reason: "the service has a fault of its own, or the answer broke off",
	},
	codes.Unknown: {Kind: conn.Unreachable, Reason: "the answer is not Google's"},
	codes.Unimplemented: {
		Kind: conn.Failed, Reason: "the endpoint does not know the operation",
		Hint: "is it the endpoint of Cloud KMS?",
	},
	codes.DeadlineExceeded: {Kind: conn.Timeout, Reason: "the service did not answer in time"},
	codes.Aborted: {
		Kind: conn.Unreachable, Reason: "the service gave the operation up",
	},
}

func gcpError(err error) error {
	var classified *conn.Error
	if errors.As(err, &classified) {
		return classified
	}
	if errors.Is(err, gcpCorrupted) {
		return &conn.Error{
			Kind:   conn.Unreachable,
			Reason: "the bytes that arrive are not those that were sent (CRC32C)",
		}
	}
	s, ok := status.FromError(err)
	if !ok {
		return network.Classify(err)
	}
	m, ok := gcpMeanings[s.Code()]
	if !ok {
		m = conn.Error{
			Kind: conn.Failed, Reason: "the call fails with the gRPC code " + s.Code().String(),
		}
	}
	m.Err = err
	return &m
}

// calls implements calls.
func (c *gcpClient) calls() (encrypt, decrypt string) {
	return "cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"
}

// Identity implements successor.
func (c *gcpClient) Identity() []byte { return c.login.Identity() }

// Adopt implements successor.
func (c *gcpClient) Adopt(identity []byte) { c.login.Adopt(identity) }

// Close implements io.Closer.
func (c *gcpClient) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.api == nil {
		return nil
	}
	return c.api.Close()
}

// openGCPConnection makes the client of an Airflow connection of type google_cloud_platform.
func openGCPConnection(_ context.Context, c *conn.Connection) (Client, string, error) {
	values, err := extraOf(c)
	if err != nil {
		return nil, "", err
	}
	// Airflow before 2.5 wrote a prefix before each key, and its later versions read it.
	for key, value := range maps.Clone(values) {
		if short, ok := strings.CutPrefix(key, "extra__google_cloud_platform__"); ok {
			delete(values, key)
			if _, both := values[short]; !both {
				values[short] = value
			}
		}
	}
	if object, ok := values["keyfile_dict"].(map[string]any); ok {
		text, _ := json.Marshal(object)
		values["keyfile_dict"] = string(text)
	}
	extra := arguments.New(values)
	key, mode := extra.Text(connectionKey, ""), takeMode(extra)
	path, credentials := extra.Text("key_path", ""), extra.Text("keyfile_dict", "")
	if credentials != "" && path != "" {
		extra.Add(errors.New("keyfile_dict and key_path: only one can be given"))
	}
	if key != "" {
		if err := checkGCPKey(key); err != nil {
			extra.Fail(connectionKey, "%v", err)
		}
	}
	extra.Ignore("project", "scope", "num_retries")
	for key, value := range extra.Rest() {
		if value != nil && value != "" && value != false {
			extra.Fail(cmp.Or(plainName(key), "a key of its extra"), "connfs cannot honour this")
		}
	}
	if err := extra.Err(); err != nil {
		return nil, "", err
	}
	content := []byte(credentials)
	if path != "" {
		if content, err = readFile(path); err != nil {
			return nil, "", err
		}
	}
	client, err := newGCPClient(key, "", content, gcpKeyTypes)
	return client, mode, err
}
