// Package spelling finds what a name that nothing has was probably meant to be.
package spelling

import (
	"fmt"
	"strings"
)

// Nearest returns the one of known that is most like word, the first of several, and whether the
// two are alike enough that one may be a slip of the other. Letters count alike in either case.
// Without known names it returns "".
func Nearest(word string, known []string) (nearest string, alike bool) {
	best := -1
	for _, name := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(name)); best < 0 || d < best {
			nearest, best = name, d
		}
	}
	return nearest, best >= 0 && best <= max(2, len(nearest)/2) && best < len(nearest)
}

// DidYouMean returns the question after the nearest of known, and "" where none of them is alike.
func DidYouMean(word string, known []string) string {
	if nearest, alike := Nearest(word, known); alike {
		return fmt.Sprintf("did you mean %q?", nearest)
	}
	return ""
}

// distance is the least number of letters to insert, delete, replace or swap with the next one
// that turns a into b.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1) // of the letters of a until now
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			replace := row[j]
			if a[i] != b[j] {
				replace++
			}
			next[j+1] = min(replace, next[j]+1, row[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
