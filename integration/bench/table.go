package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table prints rows as docs/benchmarks.md has them.
func table(head []string, rows [][]string) {
	line := func(cells []string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }
	line(head)
	fmt.Println("|" + strings.Repeat("---|", len(head)))
	for _, r := range rows {
		line(r)
	}
	fmt.Println()
}

// at returns the quantile p of v, where 0.5 is the median.
func at[T int | float64 | time.Duration](v []T, p float64) T {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	i := p * float64(len(v)-1)
	low := int(i)
	high := min(low+1, len(v)-1)
	return v[low] + T((i-float64(low))*float64(v[high]-v[low]))
}

// met says whether a value is within its target.
func met(value, target float64) string {
	if value <= target {
		return fmt.Sprintf("%g: met", target)
	}
	return fmt.Sprintf("%g: missed", target)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e6) }

// ratio returns a/b as text.
func ratio[T float64 | time.Duration](a, b T) string {
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}
