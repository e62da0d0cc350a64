//go:build integration

package aws_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/conn/conntest"
	"github.com/connfs/connfs/integration/airflow"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// secretKeys are keys with which the objects of conntest are made into such as people
// keep in Secrets Manager.
var secretKeys = strings.NewReplacer(`"login"`, `"user"`, `"conn_type"`, `"engine"`, `"schema"`, `"database"`, `"password"`, `"pass"`)

// Real Airflow and connfs, with the same arguments, at the same server, over values
// that a generator made up. The provider's class decides which text is the
// connection's; what a text means is held to Airflow elsewhere, in each version's own
// words, so that both are read here with conn.Parse.
func TestBesideAirflowOnGeneratedValues(t *testing.T) {
	m := servers.StartMoto(t)
	setEnvironment(t, m.URL)
	environment := make(map[string]string)
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY"} {
		environment[name] = os.Getenv(name)
	}
	const seed, n = 6, 120
	variants := []map[string]any{
		{}, {"connections_prefix": "/x/y//", "connections_lookup_pattern": `\w+[^7]\Z`},
		{"connections_prefix": "flat", "region_name": "eu-west-1", "profile_name": nil},
	}
	prefixes := map[string][]string{
		"aws_ssm":             {"/airflow/connections/", "/x/y/", "/flat/"},
		"aws_secrets_manager": {"airflow/connections/", "/x/y/", "flat-"},
	}
	for _, service := range services {
		t.Run(service.name, func(t *testing.T) {
			m.Reset()
			var questions []airflow.Question
			var backends []backend.Backend
			for i, kwargs := range variants {
				kwargs = maps.Clone(kwargs)
				if service.name == "aws_secrets_manager" {
					kwargs["extra_conn_words"] = map[string]any{"user": []any{"konto"},
						"host": []any{"rechner"}}
					if i == 2 {
						kwargs["sep"] = "-"
					}
				}
				b := resolvetest.Open(t, service.open, kwargs)
				for j, value := range conntest.Values(seed+int64(i), n) {
					id := fmt.Sprint("c", j)
					if service.name == "aws_secrets_manager" && j%2 == 0 {
						value = secretKeys.Replace(value)
					}
					if utf8.ValidString(value) && value != "" {
						m.Populate(service.target, service.put(prefixes[service.name][i]+id, value))
					}
					questions = append(questions,
						airflow.Question{Class: service.class, Kwargs: kwargs,
							Environment: environment, ID: id})
					backends = append(backends, b)
				}
			}
			counts := make(map[string]int)
			for i, a := range airflow.Provider(t, questions) {
				got, err := backends[i].Connection(t.Context(), a.ID)
				where := fmt.Sprintf("seed %d, variant %d, %s", seed, i/n, a.ID)
				switch {
				case a.Error != "" && a.Value == nil:
					// Text that Python does not read as JSON cannot be re-keyed.
					counts["raises"]++
					if err == nil || conn.KindOf(err) != conn.Invalid {
						t.Errorf("%s: %v, Airflow raises %.60s", where, err, a.Error)
					}
				case a.Value == nil:
					counts["absent"]++
					if err == nil || conn.KindOf(err) != conn.Absent {
						t.Errorf("%s: %v, want absent", where, err)
					}
				default:
					want, wrong := conn.Parse(string(a.Value))
					if wrong != nil || err != nil {
						counts["invalid"]++
						if (wrong == nil) != (err == nil) || err != nil &&
							conn.KindOf(err) != conn.Invalid {
							t.Errorf("%s: %v, want %v", where, err, wrong)
						}
						continue
					}
					counts["found"]++
					if diff := cmp.Diff(resolvetest.FieldsOf(want),
						resolvetest.FieldsOf(got)); diff != "" {
						t.Errorf("%s (-Airflow +connfs):\n%s", where, diff)
					}
				}
			}
			t.Logf("%d ids: %v", len(questions), counts)
			if counts["found"] < n || counts["absent"] == 0 || counts["invalid"] == 0 {
				t.Errorf("%v: the values do not show much", counts)
			}
		})
	}
}
