//go:build race

package harden

// underRaceDetector lets a binary that only tests run go on with its rights: the
// race detector needs cgo.
const underRaceDetector = true
