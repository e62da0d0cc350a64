//go:build race

package metastore_test

// many is fewer than a large metastore has: the race detector makes SQLite, which is Go
// here, a hundred times slower.
const many = 5_000

// rewritten is how many rows of each Airflow's metastore are rewritten, for the same
// reason.
const rewritten = 10
