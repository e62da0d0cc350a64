// Package resource stands for the names of things in HashiCorp's cloud, to which this
// server has no link.
package resource

import "errors"

// Resource is a name.
type Resource struct{}

// FromString fails.
func FromString(string) (Resource, error) {
	return Resource{}, errors.New("this server has no link to a cloud")
}
