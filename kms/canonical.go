package kms

import (
	"maps"
	"slices"
	"strconv"
)

// canonical returns texts by name as bytes, of which equal maps, and no others, have
// the same: each name in the order of its bytes, followed by its text, both as
// netstrings ("4:mode,8:envelope,"). It is what ciphertexts are bound to, and unlike
// JSON it has one way of writing everything in every language.
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
