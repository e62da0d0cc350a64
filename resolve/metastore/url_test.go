package metastore

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// testdata/generate_urls.py asked SQLAlchemy.
func TestURLIsTakenApartAsSQLAlchemyDoes(t *testing.T) {
	text, err := os.ReadFile("testdata/sqlalchemy_urls.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		URL, Error                              string
		Dialect, User, Password, Host, Database string
		Port                                    uint16
		Query                                   sqlQuery
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 60 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		got, err := parseSQLURL(c.URL)
		if c.Error != "" {
			if err == nil {
				t.Errorf("%q: accepted", c.URL)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.URL, err)
			continue
		}
		want := &sqlURL{c.Dialect, c.User, c.Password, c.Host, c.Port, c.Database, c.Query}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.URL, diff)
		}
	}
}
