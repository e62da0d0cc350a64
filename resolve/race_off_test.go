//go:build !race

package resolve_test

// many is how many rows a large metastore has.
const many = 100_000
