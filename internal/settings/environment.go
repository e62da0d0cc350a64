package settings

import "strings"

// Login reports whether an environment variable is one of those with which a secrets
// backend or KMS logs in: a client of AWS, Vault or Google looks for it by its name.
// It may hold a key or a token, so it reaches the children with their settings, and
// does not stay in the environment of the daemon.
func Login(name string) bool {
	for _, prefix := range []string{"AWS_", "VAULT_", "GOOGLE_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
