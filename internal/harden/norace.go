//go:build !race

package harden

const underRaceDetector = false
