package airflow

import "testing"

// Question is what [Provider] asks of a secrets backend.
type Question struct {
	Class       string            `json:"class"` // Airflow's class path
	Kwargs      map[string]any    `json:"kwargs"`
	Environment map[string]string `json:"environment"` // of the process from then on
	ID          string            `json:"id"`
}

// Provider asks the secrets backends of Airflow 3.3.2's providers, as its server
// process does. An answer with neither an Error nor a Value says that the connection is absent.
func Provider(t testing.TB, questions []Question) []Answer {
	t.Helper()
	for i := range questions {
		if questions[i].Kwargs == nil {
			questions[i].Kwargs = map[string]any{}
		}
		if questions[i].Environment == nil {
			questions[i].Environment = map[string]string{}
		}
	}
	return ask(t, "providers-3.3.2", t.TempDir(), "provider.py", questions)
}
