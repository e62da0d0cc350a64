//go:build cgo

package harden

import _ "runtime/cgo" // what net brings into connfs, where cgo is enabled

const withCgo = true
