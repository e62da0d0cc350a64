// Package k8s stands for the look-up of peers in Kubernetes.
package k8s

// Provider finds nothing.
type Provider struct{}
