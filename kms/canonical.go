package kms

import (
	"maps"
	"slices"
	"strconv"
)

// canonical returns a map of texts as bytes, the same bytes for equal maps only: each name,
// in the order of their bytes, and its text, both as netstrings ("4:mode,8:envelope,").
// Ciphertexts are bound to it. JSON would not do: languages write the same object in
// different ways.
func canonical[M ~map[string]string](m M) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = appendNetstring(appendNetstring(b, name), m[name])
	}
	return b
}

func appendNetstring(b []byte, text string) []byte {
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(append(b, ':'), text...)
	return append(b, ',')
}
