// Command gcpkmsjudge encrypts or decrypts with a Google Cloud KMS through Tink, whose
// client was written by others than the server under test: what the two agree on is the
// service's interface and not a habit of the project.
//
//	gcpkmsjudge ADDRESS KEY encrypt|decrypt < {"data": BASE64, "aad": BASE64} > BASE64
//
// It is a module of its own, so that Tink stays out of connfs's.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gcpkmsjudge:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("want ADDRESS KEY encrypt|decrypt")
	}
	var request struct{ Data, AAD []byte }
	if err := json.NewDecoder(in).Decode(&request); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	aead, err := gcpkms.GetAEADWithContext(ctx, "gcp-kms://"+args[1], gcpkms.WithTransport(
		gcpkms.TransportGRPC,
	), gcpkms.WithGoogleAPIClientOptions(
		option.WithEndpoint(args[0]), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	))
	if err != nil {
		return err
	}
	do := aead.EncryptWithContext
	if args[2] == "decrypt" {
		do = aead.DecryptWithContext
	}
	result, err := do(ctx, request.Data, request.AAD)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, base64.StdEncoding.EncodeToString(result))
	return err
}
