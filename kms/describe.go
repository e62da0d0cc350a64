package kms

import "github.com/connfs/connfs/conn"

// Description is what can be read from a sealed form without a KMS.
type Description struct {
	Version   int    // of the form
	KMSConnID string // which KMS
	KMSType   string // of the [Kind] of that KMS
	Mode      string // "envelope" or "direct"
	// Key is which key encrypted, as the KMS names it: an ARN, a resource name, a key's hash.
	Key    string
	Fields []string // the names of the sealed fields, sorted
	// Ignored are the sealed fields that the connection also holds in clear, because somebody
	// typed them into Airflow's UI afterwards. Readers get the sealed values.
	Ignored []string
}

// Describe reads the sealed form of a connection. Its error is of kind Invalid.
func Describe(sealed *conn.Connection) (Description, error) {
	text, _ := sealed.Extra.Reveal()
	f, err := parseForm(text)
	if err != nil {
		return Description{}, err
	}
	d := Description{
		Version: 1, KMSConnID: f.KMSConnID, KMSType: f.KMSType, Mode: f.Mode,
		Key: f.Extra[extraKey], Fields: f.Fields,
	}
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
