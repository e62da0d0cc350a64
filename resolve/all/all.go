// Package all knows every secrets backend: it has the one table of them, and opens the search path
// over those that the settings name.
package all

import (
	"fmt"
	"slices"
	"strings"

	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/aws"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/environment"
	"github.com/connfs/connfs/resolve/exec"
	"github.com/connfs/connfs/resolve/gcpsm"
	"github.com/connfs/connfs/resolve/localfile"
	"github.com/connfs/connfs/resolve/metastore"
	"github.com/connfs/connfs/resolve/vault"
)

// Settings is what the resolver needs to know: the secret part of the
// configuration. It exists in resolver children and, encoded, as an opaque blob
// in a locked slot of the front, and is never printed.
type Settings struct {
	Order   string // "aip-33" (the default) or "airflow"
	OnError string // "stop" (the default) or "next"

	Secrets     *backend.Secrets    // nil: no alternative backend in the path
	Metastore   *metastore.Settings // nil: no metastore in the path
	Environment environment.Settings

	// Login are the environment variables with which the clients of backends and KMS
	// log in. They are set in each child before it makes any client.
	Login []backend.Variable
}

// alternative is one kind of alternative backend.
type alternative struct {
	name  string // the short name, under which logs and audit lines show it
	class string // Airflow's class path; empty: a kind of connfs's own
	open  backend.Opener
	// older are class paths of Airflow 1.10, which Airflow 2 takes for class.
	older []string
	// programs says that the backend is a program, or that its client may start one to log in
	// (credential_process of AWS, executable-sourced credentials of Google).
	programs bool
}

// alternatives are all the alternative backends there are, sorted by name. A new one is a line
// here; see docs/adding-a-backend.md.
var alternatives = []alternative{
	{"aws_secrets_manager",
		"airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
		aws.OpenSecretsManager,
		[]string{"airflow.contrib.secrets.aws_secrets_manager.SecretsManagerBackend"}, true},
	{"aws_ssm",
		"airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend",
		aws.OpenSSM,
		[]string{
			"airflow.contrib.secrets.aws_systems_manager.SystemsManagerParameterStoreBackend"},
		true},
	{"exec", "", exec.Open, nil, true},
	{"gcp_secret_manager",
		"airflow.providers.google.cloud.secrets.secret_manager.CloudSecretManagerBackend",
		gcpsm.Open,
		[]string{
			"airflow.contrib.secrets.gcp_secrets_manager.CloudSecretManagerBackend",
			"airflow.contrib.secrets.gcp_secrets_manager.CloudSecretsManagerBackend"}, true},
	{"local_filesystem", "airflow.secrets.local_filesystem.LocalFilesystemBackend",
		localfile.Open, nil, false},
	{"vault", "airflow.providers.hashicorp.secrets.vault.VaultBackend", vault.Open,
		[]string{"airflow.contrib.secrets.hashicorp_vault.VaultBackend"}, true},
}

// Names returns the short names of all alternative backends, sorted.
func Names() []string {
	names := make([]string, len(alternatives))
	for i, a := range alternatives {
		names[i] = a.name
	}
	return names
}

// AlternativeName returns the short name of the backend that a short name or one of
// Airflow's class paths means. Its error lists the names there are.
func AlternativeName(name string) (string, error) {
	i := slices.IndexFunc(alternatives, func(a alternative) bool {
		return a.name == name || a.class != "" && a.class == name || slices.Contains(a.older, name)
	})
	if i < 0 {
		return "", fmt.Errorf(
			"no such secrets backend: there are %s, and Airflow's class paths of these",
			strings.Join(Names(), ", "),
		)
	}
	return alternatives[i].name, nil
}

// OpenAlternative returns the alternative backend of the settings by itself, without the
// search path around it. It connects to nothing.
func OpenAlternative(s *backend.Secrets) (backend.Backend, error) {
	b, _, err := openAlternative(s)
	return b, err
}

// openAlternative returns the alternative backend of the settings, and its name.
func openAlternative(s *backend.Secrets) (backend.Backend, string, error) {
	name, err := AlternativeName(s.Backend)
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(alternatives, func(a alternative) bool { return a.name == name })
	b, err := backend.Open(s, alternatives[i].open)
	return b, name, err
}

// Programs reports whether a backend of the settings may have to start a program.
func (s *Settings) Programs() bool {
	if s.Secrets == nil || s.Secrets.Backend == "" {
		return false
	}
	name, err := AlternativeName(s.Secrets.Backend)
	return err == nil && slices.ContainsFunc(alternatives, func(a alternative) bool {
		return a.name == name && a.programs
	})
}

// CheckSecrets reports what is wrong with the settings of an alternative backend,
// without connecting to it. Its error joins an [arguments.Error] for each argument that is
// wrong, and shows no value.
func CheckSecrets(s *backend.Secrets) error {
	if s == nil || s.Backend == "" {
		return nil
	}
	b, err := OpenAlternative(s)
	if c, ok := b.(interface{ Close() error }); ok {
		_ = c.Close() // nothing was opened
	}
	return err
}

// Open returns the search path that settings describe. It connects to nothing;
// its error never holds a password. With a nil fernet whatever is flagged as
// encrypted is KeyRejected, and with a nil unsealer whatever is sealed.
func Open(
	settings *Settings, fernet metastore.Decrypter, unsealer resolve.Unsealer,
) (*resolve.Path, error) {
	places := resolve.Places{
		Environment: func() (backend.Backend, string, error) {
			return environment.New(settings.Environment), "environment", nil
		},
	}
	if s := settings.Secrets; s != nil && s.Backend != "" {
		places.Alternative = func() (backend.Backend, string, error) { return openAlternative(s) }
	}
	if m := settings.Metastore; m != nil {
		places.Metastore = func() (backend.Backend, string, error) {
			b, err := metastore.Open(*m, fernet)
			return b, "metastore", err
		}
	}
	options := resolve.Options{
		Order: settings.Order, OnError: settings.OnError, Unsealer: unsealer,
	}
	return resolve.Open(options, places)
}
