package kms

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CheckSettings says what is wrong with the settings of one KMS, as far as they
// themselves show it: nothing is opened or asked. Its text shows no value that may be
// secret.
func CheckSettings(s Settings) error {
	return check(&target{Settings: s})
}

func check(t *target) error {
	k, ok := kinds[t.Type]
	switch {
	case !ok:
		return fmt.Errorf("type %s is none of %s", printable(t.Type), strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	case t.Mode != "" && t.Mode != envelope && t.Mode != direct:
		return fmt.Errorf("mode %s is neither envelope nor direct", printable(t.Mode))
	case t.CacheTTL < 0 || t.CacheUses < 0:
		return fmt.Errorf("the limits of the cache cannot be negative")
	}
	return k.check(t)
}

// only returns an error for each setting of one type alone that is set and not among
// the given names.
func (t *target) only(names ...string) []error {
	var wrong []error
	for _, s := range []struct{ name, key, value string }{
		{"Key", "key", t.Key}, {"Region", "region", t.Region}, {"Profile", "profile", t.Profile},
		{"RoleARN", "role_arn", t.RoleARN}, {"ExternalID", "external_id", t.ExternalID},
		{"WebIdentityTokenFile", "web_identity_token_file", t.WebIdentityTokenFile},
		{"CredentialsFile", "credentials_file", t.CredentialsFile}, {"Endpoint", "endpoint", t.Endpoint},
		{"Material", "the content of a key file", t.Material},
	} {
		if s.value != "" && !slices.Contains(names, s.name) {
			wrong = append(wrong, fmt.Errorf("%s is no setting of type %s", s.key, t.Type))
		}
	}
	return wrong
}
