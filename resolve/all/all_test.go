package all_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/all"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/environment"
	"github.com/connfs/connfs/resolve/metastore"
)

func TestOpenRefusesWhatItCannotHonour(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings all.Settings
		want     string
	}{
		{"order", all.Settings{Order: "mine"}, `order "mine" is neither "aip-33" nor "airflow"`},
		{"on_error", all.Settings{OnError: "ignore"}, `on_error "ignore" is neither "stop" nor "next"`},
		{"URL", all.Settings{Metastore: &metastore.Settings{URL: "secret"}},
			"opening the metastore: the database URL does not begin with DIALECT://"},
	} {
		if _, err := all.Open(&c.settings, nil, nil); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOpenSearchesTheEnvironmentFirst(t *testing.T) {
	for _, order := range []string{"", "aip-33", "airflow"} {
		p, err := all.Open(&all.Settings{
			Order:     order,
			Metastore: &metastore.Settings{URL: "sqlite:///" + airflowDatabase(t)},
			Environment: environment.Settings{Variables: environment.Variables(
				[]string{"AIRFLOW_CONN_UNENCRYPTED=http://from-env"})},
		}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, a := range p.Explain(t.Context(), "x") {
			names = append(names, a.Name)
		}
		if diff := cmp.Diff([]string{"environment", "metastore"}, names); diff != "" {
			t.Errorf("order %q (-want +got):\n%s", order, diff)
		}
		for id, want := range map[string]string{"unencrypted": "environment",
			"type_only": "metastore"} {
			if _, source, err := p.Connection(t.Context(), id); err != nil || source != want {
				t.Errorf("order %q: %s from %q, %v; want %s", order, id, source, err, want)
			}
		}
		if err := p.Warm(t.Context()); err != nil {
			t.Errorf("warm: %v", err)
		}
		if m, ok := resolve.Find[*metastore.Store](p); !ok || m.Close() != nil {
			t.Error("the metastore cannot be found, or not be closed")
		}
	}
}

// airflowDatabase copies a metastore of Airflow 2.10, since SQLite may write beside a file.
func airflowDatabase(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../metastore/testdata/2.10")); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "airflow.db")
}

// The class paths of Airflow 1.10, with the arguments that its documentation shows for each.
func TestClassPathsOfAirflow1AreUnderstood(t *testing.T) {
	const contrib = "airflow.contrib.secrets."
	for class, c := range map[string]struct{ name, kwargs string }{
		"aws_systems_manager.SystemsManagerParameterStoreBackend": {
			"aws_ssm", `{"connections_prefix": "/airflow/connections", "profile_name": null}`,
		},
		"aws_secrets_manager.SecretsManagerBackend": {
			"aws_secrets_manager", `{"connections_prefix": "airflow/connections",
				"variables_prefix": "airflow/variables", "config_prefix": "airflow/config",
				"sep": "/", "profile_name": "p", "region_name": "eu-west-1"}`,
		},
		"gcp_secrets_manager.CloudSecretsManagerBackend": {
			"gcp_secret_manager", `{"connections_prefix": "airflow-connections", "sep": "-",
				"gcp_scopes": "https://www.googleapis.com/auth/cloud-platform"}`,
		},
		"gcp_secrets_manager.CloudSecretManagerBackend": {"gcp_secret_manager", `{}`},
		"hashicorp_vault.VaultBackend": {
			"vault", `{"connections_path": "connections", "variables_path": "variables",
				"url": "http://127.0.0.1:8200", "mount_point": "airflow",
				"auth_type": "kubernetes", "kubernetes_role": "r",
				"kubernetes_jwt_path": "/var/run/secrets/kubernetes.io/serviceaccount/token"}`,
		},
	} {
		if got, err := all.AlternativeName(contrib + class); got != c.name || err != nil {
			t.Errorf("%s: %q, %v; want %s", class, got, err, c.name)
		}
		s := &backend.Secrets{Backend: contrib + class, Kwargs: c.kwargs}
		if err := all.CheckSecrets(s); err != nil {
			t.Errorf("%s: %v", class, err)
		}
	}
	const azure = contrib + "azure_key_vault.AzureKeyVaultBackend"
	if got, err := all.AlternativeName(azure); err == nil {
		t.Errorf("Azure's is %s", got)
	}
}

// The short names and class paths are what configurations hold: they do not change.
func TestEachAlternativeHasItsNames(t *testing.T) {
	const amazon = "airflow.providers.amazon.aws.secrets."
	const google = "airflow.providers.google.cloud.secrets."
	for name, want := range map[string]string{
		"aws_secrets_manager":                            "aws_secrets_manager",
		amazon + "secrets_manager.SecretsManagerBackend": "aws_secrets_manager",
		"aws_ssm": "aws_ssm",
		amazon + "systems_manager.SystemsManagerParameterStoreBackend": "aws_ssm",
		"exec":               "exec",
		"gcp_secret_manager": "gcp_secret_manager",
		google + "secret_manager.CloudSecretManagerBackend": "gcp_secret_manager",
		"local_filesystem": "local_filesystem",
		"airflow.secrets.local_filesystem.LocalFilesystemBackend": "local_filesystem",
		"vault": "vault",
		"airflow.providers.hashicorp.secrets.vault.VaultBackend": "vault",
	} {
		if got, err := all.AlternativeName(name); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"", "nothing", "airflow.secrets.metastore.MetastoreBackend"} {
		if got, err := all.AlternativeName(name); err == nil {
			t.Errorf("%q is %s", name, got)
		}
	}
}
