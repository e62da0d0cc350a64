// Package option stands for the options of Google's clients.
package option

// ClientOption is an option without effect.
type ClientOption any

// WithUserAgent returns an option.
func WithUserAgent(string) ClientOption { return nil }
