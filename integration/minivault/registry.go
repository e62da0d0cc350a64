package main

import (
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// plugins are what can be mounted.
var plugins = map[string]struct {
	kind    consts.PluginType
	factory logical.Factory
}{
	"kv":       {consts.PluginTypeSecrets, kv.Factory},
	"approle":  {consts.PluginTypeCredential, approle.Factory},
	"userpass": {consts.PluginTypeCredential, userpass.Factory},
}

// registry tells the core of the plugins.
type registry struct{}

// Contains reports whether there is a plugin of that name and kind.
func (registry) Contains(name string, kind consts.PluginType) bool {
	p, ok := plugins[name]
	return ok && p.kind == kind
}

// Get returns what makes a plugin's factory.
func (r registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	if !r.Contains(name, kind) {
		return nil, false
	}
	return func() (any, error) { return plugins[name].factory, nil }, true
}

// Keys returns the names of a kind.
func (registry) Keys(kind consts.PluginType) []string {
	var names []string
	for name, p := range plugins {
		if p.kind == kind {
			names = append(names, name)
		}
	}
	return names
}

// DeprecationStatus says that a plugin is supported.
func (r registry) DeprecationStatus(
	name string, kind consts.PluginType,
) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

// IsBuiltinEntPlugin says that no plugin is of the paid edition.
func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
