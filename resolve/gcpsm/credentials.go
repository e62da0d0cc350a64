package gcpsm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"golang.org/x/oauth2/google"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/arguments"
	"github.com/connfs/connfs/internal/googlelogin"
	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/backend"
)

// newLogin takes the arguments that say who connfs is.
func newLogin(s *backend.Secrets, kw *arguments.Object) *googlelogin.Login {
	sum := sha256.Sum256([]byte(s.Kwargs))
	return googlelogin.New(googlelogin.Credentials{
		Read:   parseCredentials(kw),
		Scopes: parseScopes(kw),
		Chain:  parseChain(kw),
		Tag:    hex.EncodeToString(sum[:16]),
		Hint:   "set GOOGLE_APPLICATION_CREDENTIALS or gcp_key_path",
	})
}

// parseCredentials takes connfs's own credentials, as Airflow does: the path of a service
// account's key file, its content, or a credential configuration. nil: the application default
// credentials.
func parseCredentials(kw *arguments.Object) func() ([]byte, error) {
	var given []func() ([]byte, error)
	if path := kw.Text("gcp_key_path", ""); path != "" {
		if !strings.HasSuffix(path, ".json") {
			kw.Fail("gcp_key_path", "Airflow takes only the path of a .json file")
		}
		given = append(given, func() ([]byte, error) { return readKey(path) })
	}
	if key := kw.Map("gcp_keyfile_dict"); len(key) > 0 {
		// Airflow mends keys whose line breaks are escaped twice.
		if text, ok := key["private_key"].(string); ok {
			key["private_key"] = strings.ReplaceAll(text, `\n`, "\n")
		}
		given = append(given, content(key))
	}
	const config = "gcp_credential_config_file"
	if _, ok := kw.Value(config).(map[string]any); ok {
		given = append(given, content(kw.Map(config)))
	} else if text := kw.Text(config, ""); strings.HasPrefix(strings.TrimSpace(text), "{") {
		given = append(given, func() ([]byte, error) { return []byte(text), nil })
	} else if text != "" {
		given = append(given, func() ([]byte, error) { return readFile(text) })
	}
	if len(given) > 1 {
		kw.Fail(config, "only one of gcp_key_path, gcp_keyfile_dict and "+
			"gcp_credential_config_file can be given")
	}
	if len(given) == 0 {
		return nil
	}
	return given[0]
}

// content returns a JSON object as the content of a file.
func content(object map[string]any) func() ([]byte, error) {
	return func() ([]byte, error) { return json.Marshal(object) }
}

// maxKeyFile is the largest file of credentials that is read, in bytes.
const maxKeyFile = 1 << 20

func readFile(path string) ([]byte, error) {
	text, _, err := regularfile.Read(path, 0, maxKeyFile, trust.Own())
	if err != nil {
		return nil, backend.FileError(conn.Denied, source, path, err)
	}
	return text, nil
}

// readKey reads the key file of a service account.
func readKey(path string) ([]byte, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var file struct{ Type google.CredentialsType }
	if json.Unmarshal(text, &file) != nil || file.Type != google.ServiceAccount {
		return nil, conn.Errorf(conn.Denied, source,
			"gcp_key_path does not hold the key of a service account")
	}
	return text, nil
}

// parseScopes takes the scopes of the token.
func parseScopes(kw *arguments.Object) []string {
	text := kw.Text("gcp_scopes", "")
	if text == "" {
		return nil
	}
	var scopes []string
	for scope := range strings.SplitSeq(text, ",") {
		scopes = append(scopes, strings.TrimSpace(scope))
	}
	return scopes
}

// parseChain takes an account, or a list of them of which the last one is to become.
func parseChain(kw *arguments.Object) []string {
	const name = "impersonation_chain"
	var chain []string
	switch v := kw.Value(name).(type) {
	case nil:
	case string:
		if v != "" {
			chain = []string{v}
		}
	case []any:
		for _, item := range v {
			account, ok := item.(string)
			if !ok {
				kw.Fail(name, "expected a service account, or a list of them")
			}
			chain = append(chain, account)
		}
	default:
		kw.Fail(name, "expected a service account, or a list of them")
	}
	for _, account := range chain {
		if !strings.Contains(account, "@") {
			kw.Fail(name, "a service account is named by its e-mail address")
			break
		}
	}
	return chain
}
