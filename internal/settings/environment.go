package settings

import "strings"

// Login reports whether an environment variable of this name, or an entry NAME=value, is one with
// which a client of a backend or KMS logs in. It may hold a key or a token. So it reaches the
// children with their settings, and does not stay in the environment of the daemon.
func Login(name string) bool { return LoginOfBackend(name) || LoginOfDatabase(name) }

// LoginOfBackend is [Login] for the clients of AWS, Vault and Google.
func LoginOfBackend(name string) bool { return begins(name, "AWS_", "VAULT_", "GOOGLE_") }

// LoginOfDatabase is [Login] for PostgreSQL's libpq.
func LoginOfDatabase(name string) bool { return begins(name, "PG") }

func begins(name string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
