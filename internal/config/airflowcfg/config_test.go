package airflowcfg_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/connfs/connfs/internal/config/airflowcfg"
)

// airflowCase is one configuration that real Airflow read.
type airflowCase struct {
	Option string            `json:"option"`
	Note   string            `json:"note"`
	Cfg    string            `json:"cfg"`
	Env    map[string]string `json:"env"`
	Files  map[string]string `json:"files"`
	Expect *string           `json:"expect"`
	Error  string            `json:"error"`
}

func TestGetAnswersAsAirflow(t *testing.T) {
	data, err := os.ReadFile("testdata/airflow_cfg_cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []airflowCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != 50 {
		t.Fatalf("the file holds %d cases, want 50", len(cases))
	}
	homes := t.TempDir()
	for i, tc := range cases {
		t.Run(tc.Option+"/"+tc.Note, func(t *testing.T) {
			// Not the subtest's own directory: its name may hold a %, which the
			// file would have to double.
			home := filepath.Join(homes, strconv.Itoa(i))
			if err := os.Mkdir(home, 0o700); err != nil {
				t.Fatal(err)
			}
			here := strings.NewReplacer("{HOME}", home).Replace
			write(t, filepath.Join(home, "airflow.cfg"), here(tc.Cfg), 0o600)
			for name, text := range tc.Files {
				write(t, filepath.Join(home, name), here(text), 0o700)
			}
			env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
			for name, value := range tc.Env {
				env = append(env, name+"="+here(value))
			}
			got, err := get(t, home, env, tc)
			if tc.Expect == nil {
				if err == nil {
					t.Fatalf("got a value, want an error: Airflow says %s", tc.Error)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v; Airflow answers", err)
			}
			if want := here(*tc.Expect); got.Text != want {
				t.Errorf("got %q, Airflow answers %q", got.Text, want)
			}
		})
	}
}

// get reads the case's option, with a secrets backend that answers from the
// values argument of the case, where it configures one.
func get(t *testing.T, home string, env []string, tc airflowCase) (airflowcfg.Value, error) {
	c, err := airflowcfg.Open(home, "", env, nil)
	if err != nil {
		return airflowcfg.Value{}, err
	}
	if kwargs, ok := tc.Env["AIRFLOW__SECRETS__BACKEND_KWARGS"]; ok {
		var backend struct{ Values map[string]string }
		if err := json.Unmarshal([]byte(kwargs), &backend); err != nil {
			t.Fatal(err)
		}
		c.Secret = func(key string) (string, bool, error) {
			value, ok := backend.Values[key]
			return value, ok, nil
		}
	}
	section, option, _ := strings.Cut(tc.Option, ".")
	return c.Get(context.Background(), section, option)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
