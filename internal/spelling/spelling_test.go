package spelling_test

import (
	"testing"

	"github.com/connfs/connfs/internal/spelling"
)

func TestDidYouMean(t *testing.T) {
	known := []string{"main", "billing", "warehouse", "ttl"}
	for word, want := range map[string]string{
		"mian":      `did you mean "main"?`, // two letters swapped are one slip
		"biling":    `did you mean "billing"?`,
		"WAREHOUSE": `did you mean "warehouse"?`,
		"tll":       `did you mean "ttl"?`,
		"qqqqqqqqq": "",
		"x":         "",
		"":          "",
	} {
		if got := spelling.DidYouMean(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := spelling.DidYouMean("main", nil); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}
