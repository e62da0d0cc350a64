package kms

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/connfs/connfs/conn"
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

// Description is what a sealed form says of itself, without any KMS.
type Description struct {
	Version   int      // of the form
	KMSConnID string   // which KMS
	KMSType   string   // "aws", "gcp" or "local"
	Mode      string   // "envelope" or "direct"
	Key       string   // which key encrypted, as the KMS names it: an ARN, a resource name, a key's hash
	Fields    []string // the names of the sealed fields, sorted
	// Ignored are the sealed fields that the connection holds in clear too, typed into
	// Airflow's UI afterwards: readers get the sealed ones.
	Ignored []string
}

// Describe reads the sealed form of a connection. Its error is of kind Invalid.
func Describe(sealed *conn.Connection) (Description, error) {
	text, _ := sealed.Extra.Reveal()
	f, err := parseForm(text)
	if err != nil {
		return Description{}, err
	}
	d := Description{Version: 1, KMSConnID: f.KMSConnID, KMSType: f.KMSType, Mode: f.Mode, Key: f.Extra[extraKey], Fields: f.Fields}
	texts := fieldsOf(sealed)
	for _, name := range f.Fields {
		var holds bool
		switch name {
		case "extra":
		case "password":
			holds = reveal(sealed.Password) != nil
		case "port":
			holds = sealed.Port != nil
		default:
			holds = *texts[name] != nil
		}
		if holds {
			d.Ignored = append(d.Ignored, name)
		}
	}
	return d, nil
}
