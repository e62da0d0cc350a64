package servers

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// GoogleKMS stands in for Google Cloud KMS, for which there is no server to run in tests.
// It was written from the documentation of the published interface. It answers Encrypt and
// Decrypt with AES-256-GCM, real additional authenticated data and CRC32C sums in both
// directions.
type GoogleKMS struct {
	kmspb.UnimplementedKeyManagementServiceServer

	Address string // 127.0.0.1:PORT, without TLS

	t      testing.TB
	server *grpc.Server // nil while down

	mu     sync.Mutex
	keys   map[string]*googleKey // by resource name
	faults []GoogleFault
	calls  map[string]int
	token  string // that calls must carry; empty: calls need no token
}

// googleKey is one key; its versions count from 1, and the last is the primary one.
type googleKey struct {
	versions []*googleKeyVersion
	denied   bool
}

type googleKeyVersion struct {
	aead  cipher.AEAD
	state kmspb.CryptoKeyVersion_CryptoKeyVersionState
}

// GoogleFault is what goes wrong with one call. With the zero value nothing does.
type GoogleFault struct {
	Hang bool  // no answer for as long as the client waits
	Err  error // answered instead
	// Corrupt changes a byte of the answer, as the network might.
	Corrupt bool
	// NoSums leaves out what says that the sums of the request were checked, and the
	// sum of the answer.
	NoSums bool
}

// GoogleKeyName is the resource name of a key of the project "test".
func GoogleKeyName(key string) string {
	return "projects/test/locations/global/keyRings/ring/cryptoKeys/" + key
}

// StartGoogleKMS starts a server without keys, which t stops.
func StartGoogleKMS(t testing.TB) *GoogleKMS {
	t.Helper()
	s := &GoogleKMS{t: t, keys: make(map[string]*googleKey), calls: make(map[string]int)}
	s.Address = fmt.Sprintf("%s:%d", loopback, freePort(t))
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// Up listens again after [GoogleKMS.Down], on the same port.
func (s *GoogleKMS) Up() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(s.server, s)
	go func(server *grpc.Server) { _ = server.Serve(l) }(s.server)
}

// Down breaks every connection off and listens no more.
func (s *GoogleKMS) Down() {
	if s.server != nil {
		s.server.Stop()
		s.server = nil
	}
}

// CreateKey makes a key with one version and returns its resource name. If there is such a
// key already, it makes a new version, which is the primary one from now on.
func (s *GoogleKMS) CreateKey(name string) string {
	s.t.Helper()
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		s.t.Fatal(err)
	}
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		s.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		s.t.Fatal(err)
	}
	name = GoogleKeyName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		k = &googleKey{}
		s.keys[name] = k
	}
	k.versions = append(k.versions, &googleKeyVersion{
		aead: aead, state: kmspb.CryptoKeyVersion_ENABLED,
	})
	return name
}

// SetState sets the state of all versions of a key.
func (s *GoogleKMS) SetState(name string, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.keys[name].versions {
		v.state = state
	}
}

// Deny refuses the use of a key from now on, or allows it again.
func (s *GoogleKMS) Deny(name string, denied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].denied = denied
}

// RequireToken refuses calls that do not carry the token.
func (s *GoogleKMS) RequireToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Fail makes the next calls go wrong, one each.
func (s *GoogleKMS) Fail(faults ...GoogleFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
}

// Calls returns how often each method was called since the last time it was asked.
func (s *GoogleKMS) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.calls)
	clear(s.calls)
	return all
}

// enter counts a call and returns what goes wrong with it.
func (s *GoogleKMS) enter(ctx context.Context, method string) (GoogleFault, error) {
	s.mu.Lock()
	var f GoogleFault
	s.calls[method]++
	if len(s.faults) > 0 {
		f, s.faults = s.faults[0], s.faults[1:]
	}
	token := s.token
	s.mu.Unlock()
	header, _ := metadata.FromIncomingContext(ctx)
	if token != "" && !slices.Equal(header["authorization"], []string{"Bearer " + token}) {
		return f, status.Error(codes.Unauthenticated, "The token is not valid.")
	}
	if f.Hang {
		<-ctx.Done()
		return f, ctx.Err()
	}
	return f, f.Err
}

var googleKeyName = regexp.MustCompile(`^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)(?:/cryptoKeyVersions/([0-9]+))?$`)

// key returns the key of that name, and the number of the version that it names; 0: none.
func (s *GoogleKMS) key(name string) (*googleKey, string, int, error) {
	m := googleKeyName.FindStringSubmatch(name)
	if m == nil {
		return nil, "", 0, status.Error(codes.InvalidArgument, "The request does not name a key.")
	}
	k := s.keys[m[1]]
	version, _ := strconv.Atoi(m[2])
	switch {
	case k == nil || version > len(k.versions):
		return nil, "", 0, status.Errorf(codes.NotFound, "CryptoKey %s not found.", m[1])
	case k.denied:
		return nil, "", 0, status.Errorf(codes.PermissionDenied,
			"Permission denied on resource '%s' (or it may not exist).", m[1])
	}
	return k, m[1], version, nil
}

// aead returns the version of that number, if it can be used.
func (k *googleKey) aead(version int) (cipher.AEAD, error) {
	v := k.versions[version-1]
	if v.state != kmspb.CryptoKeyVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition,
			"version %d is not enabled, current state is: %s.", version, v.state)
	}
	return v.aead, nil
}

// Encrypt implements kmspb.KeyManagementServiceServer.
func (s *GoogleKMS) Encrypt(
	ctx context.Context, r *kmspb.EncryptRequest,
) (*kmspb.EncryptResponse, error) {
	f, err := s.enter(ctx, "Encrypt")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, name, version, err := s.key(r.GetName())
	if err != nil {
		return nil, err
	}
	if version == 0 {
		version = len(k.versions)
	}
	aead, err := k.aead(version)
	if err != nil {
		return nil, err
	}
	if len(r.GetPlaintext()) > 64<<10 || len(r.GetAdditionalAuthenticatedData()) > 64<<10 {
		return nil, status.Error(codes.InvalidArgument,
			"The plaintext or the additional authenticated data is over 64 KiB.")
	}
	if !sumIs(r.PlaintextCrc32C, r.GetPlaintext()) ||
		!sumIs(r.AdditionalAuthenticatedDataCrc32C, r.GetAdditionalAuthenticatedData()) {
		return nil, status.Error(codes.InvalidArgument, "The checksum does not fit what came.")
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, status.Error(codes.Internal, "no random numbers")
	}
	// A ciphertext begins with the version that made it.
	ciphertext := append(binary.BigEndian.AppendUint32(nil, uint32(version)), nonce...)
	ciphertext = aead.Seal(ciphertext, nonce, r.GetPlaintext(), r.GetAdditionalAuthenticatedData())
	answer := &kmspb.EncryptResponse{
		Name: fmt.Sprintf("%s/cryptoKeyVersions/%d", name, version), Ciphertext: ciphertext,
		CiphertextCrc32C:                          sumOf(ciphertext),
		VerifiedPlaintextCrc32C:                   r.PlaintextCrc32C != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: r.AdditionalAuthenticatedDataCrc32C != nil,
		ProtectionLevel:                           kmspb.ProtectionLevel_SOFTWARE,
	}
	if f.NoSums {
		answer.CiphertextCrc32C, answer.VerifiedPlaintextCrc32C,
			answer.VerifiedAdditionalAuthenticatedDataCrc32C = nil,
			false, false
	}
	if f.Corrupt {
		answer.Ciphertext = flipped(ciphertext)
	}
	return answer, nil
}

// Decrypt implements kmspb.KeyManagementServiceServer.
func (s *GoogleKMS) Decrypt(
	ctx context.Context, r *kmspb.DecryptRequest,
) (*kmspb.DecryptResponse, error) {
	f, err := s.enter(ctx, "Decrypt")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, version, err := s.key(r.GetName())
	if err != nil {
		return nil, err
	}
	if version != 0 {
		return nil, status.Error(codes.InvalidArgument,
			"Decrypt takes a key, not a version of one.")
	}
	if !sumIs(r.CiphertextCrc32C, r.GetCiphertext()) ||
		!sumIs(r.AdditionalAuthenticatedDataCrc32C, r.GetAdditionalAuthenticatedData()) {
		return nil, status.Error(codes.InvalidArgument, "The checksum does not fit what came.")
	}
	failed := status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	if len(r.GetCiphertext()) < 16 {
		return nil, failed
	}
	if version = int(binary.BigEndian.Uint32(r.GetCiphertext())); version < 1 ||
		version > len(k.versions) {
		return nil, failed
	}
	aead, err := k.aead(version)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, r.GetCiphertext()[4:16], r.GetCiphertext()[16:],
		r.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, failed
	}
	answer := &kmspb.DecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: sumOf(plaintext),
		UsedPrimary: version == len(k.versions), ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
	}
	if f.NoSums {
		answer.PlaintextCrc32C = nil
	}
	if f.Corrupt {
		answer.Plaintext = flipped(plaintext)
	}
	return answer, nil
}

var crc32c = crc32.MakeTable(crc32.Castagnoli)

func sumOf(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32c)))
}

// sumIs reports whether sum is the checksum of b. It also accepts that there is no sum.
func sumIs(sum *wrapperspb.Int64Value, b []byte) bool {
	return sum == nil || sum.Value == sumOf(b).Value
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}
