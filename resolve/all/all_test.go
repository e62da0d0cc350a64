package all_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/all"
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

// The short names and class paths are what configurations hold: they do not change.
func TestEachAlternativeHasItsNames(t *testing.T) {
	const amazon = "airflow.providers.amazon.aws.secrets."
	const google = "airflow.providers.google.cloud.secrets."
	for backend, want := range map[string]string{
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
		if got, err := all.AlternativeName(backend); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %s", backend, got, err, want)
		}
	}
	for _, backend := range []string{"", "nothing", "airflow.secrets.metastore.MetastoreBackend"} {
		if got, err := all.AlternativeName(backend); err == nil {
			t.Errorf("%q is %s", backend, got)
		}
	}
}
