package kms_test

import (
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/kms/kmstest"
)

func TestLocal(t *testing.T) {
	kmstest.Run(t, kmstest.Harness{Settings: localSettings(t), Other: localSettings(t)})
}

// state is the failure of a Google key in that state.
func state(
	s *servers.GoogleKMS, key string, state kmspb.CryptoKeyVersion_CryptoKeyVersionState,
) kmstest.Failure {
	return kmstest.Failure{
		Kind: conn.KeyRejected, Says: "disabled, destroyed",
		Begin: func(*testing.T) func() {
			s.SetState(key, state)
			return func() { s.SetState(key, kmspb.CryptoKeyVersion_ENABLED) }
		},
	}
}

func TestGoogle(t *testing.T) {
	s := servers.StartGoogleKMS(t)
	key := s.CreateKey("key")
	s.CreateKey("key") // the second version is the primary one
	settings := kmstest.Settings("gcp", "key", key, "endpoint", s.Address)
	other := kmstest.With(settings, "key", s.CreateKey("other"))
	away := kmstest.With(settings, "endpoint", "127.0.0.1:1")
	// fault makes the next calls answer so, more of them than there are attempts.
	fault := func(kind conn.Kind, says string, f servers.GoogleFault) kmstest.Failure {
		return kmstest.Failure{Kind: kind, Says: says, Begin: func(*testing.T) func() {
			s.Fail(f, f, f, f, f, f, f)
			return func() { s.Fail() }
		}}
	}
	kmstest.Run(t, kmstest.Harness{
		Settings: settings, Other: other, Unreachable: &away, DirectLimit: 64 << 10,
		Failures: map[string]kmstest.Failure{
			"disabled":  state(s, key, kmspb.CryptoKeyVersion_DISABLED),
			"destroyed": state(s, key, kmspb.CryptoKeyVersion_DESTROYED),
			"scheduled": state(s, key, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED),
			"denied": {Kind: conn.Denied, Says: "refuses", Begin: func(*testing.T) func() {
				s.Deny(key, true)
				return func() { s.Deny(key, false) }
			}},
			"down": {
				Kind: conn.Unreachable, Says: "not available", Begin: func(*testing.T) func() {
					s.Down()
					return s.Up
				},
			},
			"corrupt": fault(
				conn.Unreachable, "CRC32C", servers.GoogleFault{Corrupt: true},
			),
			"no sums": fault(conn.Unreachable, "CRC32C", servers.GoogleFault{NoSums: true}),
			"throttled": fault(
				conn.Unreachable, "throttled",
				servers.GoogleFault{Err: status.Error(codes.ResourceExhausted, "Quota exceeded")},
			),
			"internal": fault(
				conn.Unreachable, "fault of its own",
				servers.GoogleFault{Err: status.Error(codes.Internal, "x")},
			),
			"unauthenticated": fault(
				conn.Denied, "credentials",
				servers.GoogleFault{Err: status.Error(codes.Unauthenticated, "x")},
			),
			"not found": fault(
				conn.KeyRejected, "no such key",
				servers.GoogleFault{Err: status.Error(codes.NotFound, "x")},
			),
		},
	})
}
