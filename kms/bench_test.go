package kms_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
)

// BenchmarkUnseal is what opening a sealed connection costs: with a local key, and with
// an AWS KMS that answers at once, beside the call of the bare SDK to the same server.
func BenchmarkUnseal(b *testing.B) {
	b.Run("local", func(b *testing.B) { benchUnseal(b, localSettings(b)) })

	const arn = "arn:aws:kms:eu-west-1:1:key/k"
	answer, err := json.Marshal(map[string]any{
		"KeyId": arn, "Plaintext": make([]byte, 32), "CiphertextBlob": make([]byte, 180),
	})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = w.Write(answer)
	}))
	defer server.Close()
	b.Setenv("AWS_ACCESS_KEY_ID", "a")
	b.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	b.Run("aws", func(b *testing.B) {
		benchUnseal(b, kmstest.Settings("aws", "key", arn, "endpoint", server.URL))
	})
	b.Run("bare SDK", func(b *testing.B) {
		api := awskms.New(awskms.Options{
			Region: "eu-west-1", BaseEndpoint: &server.URL,
			Credentials: awscredentials.NewStaticCredentialsProvider("a", "b", ""),
		})
		in := &awskms.DecryptInput{
			KeyId: aws.String(arn), CiphertextBlob: make([]byte, 180),
			EncryptionContext: map[string]string{
				"conn_id": "a", "kms_conn_id": "main", "mode": "envelope", "version": "1",
			},
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := api.Decrypt(b.Context(), in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchUnseal(b *testing.B, s kms.Settings) {
	k := kmstest.Keyring(b, s)
	sealed, err := k.Seal(b.Context(), "a", kmstest.Sample(), "main", nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var c *conn.Connection
		if c, err = k.Unseal(b.Context(), "a", sealed, nil); err != nil || c == nil {
			b.Fatal(err)
		}
	}
}
