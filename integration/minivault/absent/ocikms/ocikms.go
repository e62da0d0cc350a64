// Package ocikms stands for a seal that this server does not have.
package ocikms

import wrapping "github.com/hashicorp/go-kms-wrapping/v2"

// NewWrapper returns nothing: no configuration of this server asks for one.
func NewWrapper() wrapping.Wrapper { return nil }

// The names that the core looks up in what a wrapper says of itself.
const (
	KmsConfigKeyId              = "key_id"
	KmsConfigCryptoEndpoint     = "crypto_endpoint"
	KmsConfigManagementEndpoint = "management_endpoint"
)
