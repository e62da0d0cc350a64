package conn

import (
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// SealedKey is the key of the JSON object that makes it a sealed form: the secret
// fields of a connection, encrypted with a key that only a KMS can unwrap. Package
// kms reads and writes sealed forms; they are specified in docs/sealed.md.
const SealedKey = "connfs_sealed"

// Sealed reports whether the extra holds a sealed form.
func (c *Connection) Sealed() bool {
	text, _ := c.Extra.Reveal()
	return IsSealed(text)
}

// IsSealed reports whether text is a JSON object with [SealedKey]: a sealed form of some
// version, or an object that claims to be one.
func IsSealed(text string) bool {
	// This is enough for nearly every extra that is not sealed.
	if !strings.Contains(text, SealedKey) {
		return false
	}
	value, err := python.LoadJSON(text, python.MaxDepth)
	if err != nil {
		return false
	}
	o, ok := value.(*python.Object)
	return ok && o.Get(SealedKey) != nil
}
