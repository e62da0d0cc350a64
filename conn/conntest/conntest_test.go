package conntest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/connfs/connfs/conn"
	"github.com/google/go-cmp/cmp"
)

func TestSameSeedMakesTheSame(t *testing.T) {
	if diff := cmp.Diff(Values(7, 500), Values(7, 500)); diff != "" {
		t.Errorf("values differ:\n%s", diff)
	}
	if diff := cmp.Diff(Connections(7, 500), Connections(7, 500)); diff != "" {
		t.Errorf("rows differ:\n%s", diff)
	}
	if cmp.Equal(Values(7, 50), Values(8, 50)) ||
		cmp.Equal(Connections(7, 50), Connections(8, 50)) {
		t.Error("another seed makes the same")
	}
}

func TestValuesAreOfEveryKind(t *testing.T) {
	counts := make(map[string]int)
	for _, value := range Values(1, 5000) {
		c, err := conn.Parse(value)
		kind := "uri"
		if strings.HasPrefix(strings.TrimSpace(value), "{") {
			kind = "json"
		}
		switch {
		case err != nil && conn.KindOf(err) != conn.Invalid:
			t.Errorf("Parse(%q): %v, want Invalid", value, err)
		case err != nil:
			kind += " refused"
		case c.Validate() != nil:
			kind += " refused by look-up"
		default:
			kind += " found"
		}
		counts[kind]++
	}
	for _, kind := range []string{
		"uri found", "uri refused", "json found", "json refused", "json refused by look-up",
	} {
		if counts[kind] < 20 {
			t.Errorf("%d values are %s; all: %v", counts[kind], kind, counts)
		}
	}
}

func TestConnectionsMarshalInTheOpen(t *testing.T) {
	ids := make(map[string]bool)
	for _, row := range Connections(1, 2000) {
		if id := strings.ToLower(row.ID); ids[id] {
			t.Errorf("the id %q is there twice", row.ID)
		} else {
			ids[id] = true
		}
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		var back Row
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row, back); diff != "" {
			t.Errorf("row changed in JSON:\n%s", diff)
		}
		if _, err := row.Connection().JSON(); err != nil {
			t.Errorf("row %q: %v", row.ID, err)
		}
	}
}
