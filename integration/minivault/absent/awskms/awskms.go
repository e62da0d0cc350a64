// Package awskms stands for a seal that this server does not have.
package awskms

import wrapping "github.com/hashicorp/go-kms-wrapping/v2"

// NewWrapper returns nothing: no configuration of this server asks for one.
func NewWrapper() wrapping.Wrapper { return nil }

// WithLogger returns an option that every wrapper ignores. The core passes it to the Shamir
// seal, which this server has.
func WithLogger(any) wrapping.Option { return func() any { return nil } }
