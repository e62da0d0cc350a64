package settings

import "strings"

// Login reports whether an environment variable of this name, or an entry NAME=value, is one with
// which a client of AWS, Vault or Google logs in. It may hold a key or a token. So it reaches the
// children with their settings, and does not stay in the environment of the daemon.
func Login(name string) bool {
	for _, prefix := range []string{"AWS_", "VAULT_", "GOOGLE_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
