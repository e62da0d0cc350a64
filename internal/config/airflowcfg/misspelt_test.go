package airflowcfg_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config/airflowcfg"
)

func TestNamesThatWereProbablyMisspelt(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "airflow.cfg")
	write(t, file, "[core]\nbackned = x\n[secrets]\nbackend = y\nbackend_kwrags = {}\n"+
		"something_else = 1\nbackend_kwargs_cmd = true\n", 0o600)
	c, err := airflowcfg.Open(home, "", []string{
		"AIRFLOW__SECRETS__BACKEND=x", "AIRFLOW__SECRETS_BACKEND=SECRET",
		"AIRFLOW_CORE_FERNET_KEY_CMD=SECRET", "airflow__core__multi_team=true",
		"AIRFLOW__CORE__PARALLELISM=1", "AIRFLOW_CONN_X=SECRET", "PATH=/bin",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		file + `:5: Airflow has no option [secrets] backend_kwrags; did you mean "backend_kwargs"?`,
		"Airflow does not read the variable AIRFLOW__SECRETS_BACKEND; did you mean " +
			"AIRFLOW__SECRETS__BACKEND?",
		"Airflow does not read the variable AIRFLOW_CORE_FERNET_KEY_CMD; did you mean " +
			"AIRFLOW__CORE__FERNET_KEY_CMD?",
		"Airflow does not read the variable airflow__core__multi_team; did you mean " +
			"AIRFLOW__CORE__MULTI_TEAM?",
	}
	if diff := cmp.Diff(want, c.Misspelt()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
