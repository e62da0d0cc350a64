//go:build !race

package metastore_test

// many is how many rows a large metastore has.
const many = 100_000

// rewritten is how many rows of each Airflow's metastore are rewritten: all of them.
const rewritten = 1_000
