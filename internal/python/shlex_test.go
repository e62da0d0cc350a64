package python

import (
	"strings"
	"testing"
)

func FuzzShlexSplit(f *testing.F) {
	f.Add(`a 'b c' "d\"e" f\ g ''`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := ShlexSplit(line)
		if err != nil {
			return
		}
		// Quoted again, the words are the same.
		var quoted []string
		for _, word := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(word, "'", `'"'"'`)+"'")
		}
		again, err := ShlexSplit(strings.Join(quoted, " "))
		if err != nil || strings.Join(again, "\x00") != strings.Join(words, "\x00") {
			t.Errorf("%q, and quoted again %q: %v", words, again, err)
		}
	})
}
