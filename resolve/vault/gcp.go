package vault

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
)

// serviceAccount is the part of a Google key file that signs.
type serviceAccount struct {
	Email      string `json:"client_email"`
	KeyID      string `json:"private_key_id"`
	PrivateKey string `json:"private_key"` // PEM, PKCS #8
}

// authGoogle is the login of Vault's Google Cloud auth method of type iam: a token that
// the service account signs. Airflow lets Google's IAM API sign it, for which it needs
// the same key; Vault takes either signature.
func authGoogle(a *auth, kw *arguments.Object) {
	kw.Ignore("gcp_scopes")
	role, path := kw.Need("role_id", needed), kw.Text("gcp_key_path", "")
	var given []byte
	switch v := kw.Value("gcp_keyfile_dict").(type) {
	case nil:
	case string:
		given = []byte(v)
	default:
		given, _ = json.Marshal(v)
	}
	if path == "" == (given == nil) {
		kw.Fail("gcp_key_path", "this auth_type needs gcp_key_path or gcp_keyfile_dict, one of"+
			" them: connfs signs the login with a service account's key, and not through"+
			" Google's API")
	}
	a.body = func(context.Context) (map[string]any, error) {
		text := given
		if path != "" {
			var err error
			if text, err = readFile("gcp_key_path", path); err != nil {
				return nil, err
			}
		}
		jwt, err := signGoogle(text, role, time.Now())
		return map[string]any{"role": role, "jwt": jwt}, err
	}
}

// signGoogle returns the JSON Web Token of a login, good for 15 minutes as Airflow's.
func signGoogle(keyFile []byte, role string, now time.Time) (string, error) {
	unusable := conn.Errorf(conn.Denied, "",
		"the service account's key is not a Google key file with an RSA key")
	var account serviceAccount
	if json.Unmarshal(keyFile, &account) != nil {
		return "", unusable
	}
	block, _ := pem.Decode([]byte(account.PrivateKey))
	if block == nil {
		return "", unusable
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return "", unusable
	}
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]string{"alg": "RS256", "kid": account.KeyID, "typ": "JWT"}) + "." +
		part(map[string]any{
			"iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(), "sub": account.Email,
			"aud": "vault/" + role,
		})
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", unusable
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
