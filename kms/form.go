package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
)

// version is the version of the sealed form that this package writes, and the only one
// that it reads.
const version = "1"

// form is a sealed form: the JSON object that docs/sealed.md specifies.
type form struct {
	KMSConnID string // which KMS
	KMSType   string
	Mode      string
	Fields    []string // the names of the sealed fields, sorted
	Extra     Extra
	Payload   []byte // envelope: nonce, ciphertext and tag; direct: nil
}

// The keys of a sealed form beside [conn.SealedKey].
const (
	formKMSConnID = "kms_conn_id"
	formKMSType   = "kms_type"
	formExtra     = "kms_extra"
	formMode      = "mode"
	formFields    = "fields"
	formPayload   = "payload"
)

// parseForm reads a sealed form. Its error is of kind Invalid.
func parseForm(text string) (*form, error) {
	if !utf8.ValidString(text) {
		return nil, invalid("it is not UTF-8")
	}
	if err := checkVersion(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	members, err := readObject(d, true)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, invalid("something follows the object")
	}
	return newForm(members)
}

// checkVersion looks at the version before anything else, which may be different in another
// version.
func checkVersion(text string) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		return invalid("it is not one JSON object")
	}
	switch v := string(bytes.TrimSpace(members[conn.SealedKey])); {
	case v == version:
		return nil
	case v == "":
		return invalid("%s is missing", conn.SealedKey)
	case len(v) > 9 || strings.Trim(v, "0123456789") != "":
		return invalid("its version is not a number")
	default:
		err := invalid("it is of version %s, and this connfs reads version %s only", v, version)
		err.Hint = "a newer connfs may have written it"
		return err
	}
}

// readObject reads an object whose values are text, numbers, or, where nested, an object
// of text and numbers. A repeated key is an error, since readers differ in which one counts.
func readObject(d *json.Decoder, nested bool) (map[string]any, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not one JSON object")
	}
	members := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("the JSON does not parse")
		}
		key := t.(string)
		if _, ok := members[key]; ok {
			return nil, fmt.Errorf("the key %s occurs twice", printable(key))
		}
		if members[key], err = readValue(d, nested); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the JSON does not parse")
	}
	return members, nil
}

// readValue reads the next value. A value of a type that no key takes becomes struct{}{}.
func readValue(d *json.Decoder, nested bool) (any, error) {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return nil, errors.New("the JSON does not parse")
	}
	switch {
	case raw[0] == '{' && nested:
		inner := json.NewDecoder(bytes.NewReader(raw))
		inner.UseNumber()
		return readObject(inner, false)
	case raw[0] == '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case '0' <= raw[0] && raw[0] <= '9':
		return json.Number(raw), nil
	}
	return struct{}{}, nil
}

// newForm makes the form of an object's members. An unknown or missing one is an error.
func newForm(members map[string]any) (*form, error) {
	if err := refuseMasked("", members); err != nil {
		return nil, err
	}
	f := &form{Extra: Extra{}}
	var fields string
	for _, member := range []struct {
		key string
		to  *string
	}{
		{formKMSConnID, &f.KMSConnID}, {formKMSType, &f.KMSType},
		{formMode, &f.Mode}, {formFields, &fields},
	} {
		text, ok := members[member.key].(string)
		if _, there := members[member.key]; !there {
			return nil, invalid("%s is missing", member.key)
		}
		if !ok || text == "" {
			return nil, invalid("%s is not a text, or empty", member.key)
		}
		*member.to = text
	}
	extra, ok := members[formExtra].(map[string]any)
	if !ok {
		return nil, invalid("%s is missing or not an object", formExtra)
	}
	for key, value := range extra {
		text, ok := value.(string)
		if !ok {
			return nil, invalid("in %s, %s is not a text", formExtra, printable(key))
		}
		f.Extra[key] = text
	}
	if err := f.readPayload(members); err != nil {
		return nil, err
	}
	if err := refuseOthers(members); err != nil {
		return nil, err
	}
	var err error
	f.Fields, err = parseFields(fields)
	return f, err
}

// refuseOthers names every key that a form does not have. The edit form of Airflow 2.x adds
// the fields of the connection's type, and adds them again each time it is saved.
func refuseOthers(members map[string]any) error {
	known := []string{
		conn.SealedKey, formExtra, formPayload, formKMSConnID, formKMSType, formMode, formFields,
	}
	var others []string
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(known, key) {
			others = append(others, printable(key))
		}
	}
	const most = 20
	var err *conn.Error
	switch n := len(others); {
	case n == 0:
		return nil
	case n == 1:
		err = invalid("the key %s is not one of a sealed form", others[0])
	case n > most:
		err = invalid(
			"the keys %s and %d more are not of a sealed form", strings.Join(others[:most], ", "),
			n-most,
		)
	default:
		err = invalid("the keys %s are not of a sealed form", strings.Join(others, ", "))
	}
	err.Hint = "take out of the extra what a form of Airflow's UI may have added, through " +
		"Airflow's REST API: that form would add it again"
	return err
}

// mask is what Airflow's REST API shows in place of a text that is the password of any
// connection. It stores the mask when that is sent back. A form never holds it.
const mask = "***"

// refuseMasked says which text was masked; otherwise the form would just not open.
func refuseMasked(within string, members map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(members)) {
		switch value := members[key].(type) {
		case string:
			if strings.Contains(value, mask) {
				err := invalid("%s%s holds %s", within, printable(key), mask)
				err.Hint = "Airflow masked a text that is also the password of some " +
					"connection, and an edit stored the mask: put the text back, and change " +
					"that password"
				return err
			}
		case map[string]any:
			if err := refuseMasked("in "+formExtra+", ", value); err != nil {
				return err
			}
		}
	}
	return nil
}

// readPayload reads mode and payload, which depend on each other.
func (f *form) readPayload(members map[string]any) error {
	value, there := members[formPayload]
	switch f.Mode {
	case direct:
		if there {
			return invalid("the mode is direct, which has no payload")
		}
		return nil
	case envelope:
		text, _ := value.(string)
		var ok bool
		if f.Payload, ok = decodeBase64Strict(text); !ok || text == "" {
			return invalid("the payload is missing or not base64")
		}
		return nil
	}
	return invalid("the mode %s is neither envelope nor direct", printable(f.Mode))
}

// text returns the form as it is stored.
func (f *form) text() (string, error) {
	b := new(bytes.Buffer)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Version   json.Number `json:"connfs_sealed"`
		KMSConnID string      `json:"kms_conn_id"`
		KMSType   string      `json:"kms_type"`
		Mode      string      `json:"mode"`
		Fields    string      `json:"fields"`
		Extra     Extra       `json:"kms_extra"`
		Payload   []byte      `json:"payload,omitempty"`
	}{version, f.KMSConnID, f.KMSType, f.Mode, strings.Join(f.Fields, ","), f.Extra, f.Payload})
	return strings.TrimSpace(b.String()), err
}

// decodeBase64Strict takes only the one standard encoding of the bytes, so that two texts are
// never the same ciphertext.
func decodeBase64Strict(text string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}

// context returns what the KMS binds its ciphertext to. Its names are plain, so that a key
// policy can put conditions on them (kms:EncryptionContext:conn_id). Without a tenant there
// is no such name.
func (f *form) context(id, tenant string) Context {
	bound := Context{"version": version, "conn_id": id, "kms_conn_id": f.KMSConnID, "mode": f.Mode}
	if tenant != "" {
		bound["tenant"] = tenant
	}
	return bound
}

// aad returns what the payload is bound to: everything else.
func (f *form) aad(id, tenant string) []byte {
	return canonical(map[string]string{
		conn.SealedKey: version, "conn_id": id, "tenant": tenant,
		formKMSConnID: f.KMSConnID, formKMSType: f.KMSType,
		formMode: f.Mode, formFields: strings.Join(f.Fields, ","),
		formExtra: string(canonical(f.Extra)),
	})
}

// invalid returns an error of kind Invalid: something is not a sealed form.
func invalid(format string, args ...any) *conn.Error {
	return conn.Errorf(conn.Invalid, "", "the sealed form: "+format, args...)
}

// printable returns a text from a sealed form as an error may show it. Somebody else wrote the
// form, and must not decide what a log line looks like.
func printable(text string) string {
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	return fmt.Sprintf("%+q", text)
}
