//go:build !cgo

package harden

const withCgo = false
