package resolve

import (
	"fmt"
	"slices"
	"strings"
)

// alternative is one kind of alternative backend.
type alternative struct {
	name  string // the short name, under which logs and audit lines show it
	class string // Airflow's class path; empty: a kind of connfs's own
	// open returns the backend. It connects to nothing; its error names every
	// argument that is unknown or cannot be honoured, and shows no value.
	open func(*SecretsSettings, *kwargs) (Backend, error)
}

// alternatives are all the alternative backends there are.
var alternatives = []alternative{
	{"aws_secrets_manager", "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend", openSecretsManager},
	{"aws_ssm", "airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend", openSSM},
	{"exec", "", openExec},
	{"gcp_secret_manager", "airflow.providers.google.cloud.secrets.secret_manager.CloudSecretManagerBackend", openGoogleSecretManager},
	{"local_filesystem", "airflow.secrets.local_filesystem.LocalFilesystemBackend", openLocalFilesystem},
	{"vault", "airflow.providers.hashicorp.secrets.vault.VaultBackend", openVault},
}

// AlternativeName returns the short name of the backend that a short name or one of
// Airflow's class paths means. Its error lists the names there are.
func AlternativeName(backend string) (string, error) {
	i := slices.IndexFunc(alternatives, func(a alternative) bool {
		return a.name == backend || a.class != "" && a.class == backend
	})
	if i < 0 {
		names := make([]string, len(alternatives))
		for i, a := range alternatives {
			names[i] = a.name
		}
		return "", fmt.Errorf("no such secrets backend: there are %s, and Airflow's class paths of these", strings.Join(names, ", "))
	}
	return alternatives[i].name, nil
}

// openAlternative returns the alternative backend of the settings, and its name; nil
// if there is none.
func openAlternative(s *SecretsSettings) (Backend, string, error) {
	if s == nil || s.Backend == "" {
		return nil, "", nil
	}
	name, err := AlternativeName(s.Backend)
	if err != nil {
		return nil, "", err
	}
	kw, err := parseKwargs(s.Kwargs)
	if err != nil {
		return nil, name, err
	}
	i := slices.IndexFunc(alternatives, func(a alternative) bool { return a.name == name })
	b, err := alternatives[i].open(s, kw)
	if err != nil {
		return nil, name, err
	}
	if err := kw.err(); err != nil {
		return nil, name, err
	}
	return b, name, nil
}

// OpenAlternative returns the alternative backend of the settings by itself, without the
// search path around it. It connects to nothing.
func OpenAlternative(s *SecretsSettings) (Backend, error) {
	b, _, err := openAlternative(s)
	return b, err
}

// CheckSecrets reports what is wrong with the settings of an alternative backend,
// without connecting to it. Its error names arguments, and shows no value.
func CheckSecrets(s *SecretsSettings) error {
	b, _, err := openAlternative(s)
	if c, ok := b.(interface{ Close() error }); ok {
		c.Close()
	}
	return err
}
