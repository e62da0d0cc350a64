// Command minivault is a real HashiCorp Vault core (MPL-2.0) for tests: the secrets
// engine kv in both its versions, and the logins token, approle and userpass, in
// memory, without plugins, a user interface or storage. The other packages that the
// core would bring are replaced by the empty ones in absent/.
//
// It prints one line of JSON once it answers: its address, and the key that unseals it
// after PUT /v1/sys/seal.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	log "github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	address := flag.String("listen", "127.0.0.1:8200", "where to listen")
	token := flag.String("token", "root", "the root token")
	cert := flag.String("cert", "", "PEM file of the certificate; empty: no TLS")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	if err := run(*address, *token, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "minivault:", err)
		os.Exit(1)
	}
}

func run(address, token, cert, key string) error {
	ctx := namespace.RootContext(context.Background())
	scheme := "http"
	if cert != "" {
		scheme = "https"
	}
	core, err := newCore(scheme + "://" + address)
	if err != nil {
		return err
	}
	root, unsealKey, err := initialize(ctx, core)
	if err != nil {
		return err
	}
	if err := setRootToken(ctx, core, root, token); err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core, ListenerConfig: &configutil.Listener{Address: address},
	})}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{
		"address": scheme + "://" + l.Addr().String(), "unseal_key": hex.EncodeToString(unsealKey),
	}); err != nil {
		return err
	}
	if cert != "" {
		return server.ServeTLS(l, cert, key)
	}
	return server.Serve(l)
}

// newCore makes a core that keeps everything in memory.
func newCore(url string) (*vault.Core, error) {
	logger := log.New(&log.LoggerOptions{Level: log.Warn})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, err
	}
	const lease = 768 * time.Hour
	return vault.NewCore(&vault.CoreConfig{
		Physical: storage, DisableMlock: true, Logger: logger, RedirectAddr: url,
		LogicalBackends: map[string]logical.Factory{"kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{
			"approle": approle.Factory, "userpass": userpass.Factory,
		},
		BuiltinRegistry: registry{},
		DefaultLeaseTTL: lease, MaxLeaseTTL: lease,
	})
}

// initialize unseals a new core with one key, and waits until it is active.
func initialize(ctx context.Context, core *vault.Core) (
	rootToken string, unsealKey []byte, err error,
) {
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	result, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return "", nil, err
	}
	// The core wipes what it is given.
	key := append([]byte{}, result.SecretShares[0]...)
	if _, err := core.Unseal(result.SecretShares[0]); err != nil {
		return "", nil, err
	}
	for {
		standby, err := core.Standby()
		if err != nil {
			return "", nil, err
		}
		if !standby && !core.Sealed() {
			return result.RootToken, key, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// setRootToken makes a root token of a known value.
func setRootToken(ctx context.Context, core *vault.Core, root, token string) error {
	_, err := core.HandleRequest(ctx, &logical.Request{
		ID: "root-token", Operation: logical.UpdateOperation, ClientToken: root,
		Path: "auth/token/create",
		Data: map[string]any{
			"id": token, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true,
		},
	})
	return err
}
