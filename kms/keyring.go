package kms

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/spelling"
)

// Keyring seals and unseals connections, with the KMS of the configuration and those
// that Airflow connections describe. It is safe for concurrent use, and connects to
// nothing until it is asked.
type Keyring struct {
	named map[string]*source // by the NAME of [kms.NAME]; never changes
	// listed are the ids of the Airflow connections that may be a KMS; never changes.
	listed []string

	mu     sync.Mutex
	found  map[string]*source // by conn_id; kept for the life of the process
	keys   dataKeys
	tenant string // of every connection; empty: they have no tenant
}

// Finder looks up the Airflow connection that describes a KMS; see resolve.Finder.
type Finder = func(ctx context.Context, id string) (*conn.Connection, error)

// NewKeyring returns the keyring with the KMS of the configuration, and those that the
// connections with the listed ids describe. No other connection can be a KMS: whoever could
// write one would choose which server is asked, and with what. The error names every KMS of
// the configuration whose settings are wrong, and shows no secret.
func NewKeyring(settings map[string]Settings, listed ...string) (*Keyring, error) {
	k := &Keyring{
		named: make(map[string]*source), listed: listed, found: make(map[string]*source),
	}
	var wrong []error
	for name, s := range settings {
		for _, err := range CheckSettings(s) {
			wrong = append(wrong, fmt.Errorf("kms.%s.%w", name, err))
		}
		k.named[name] = newSource(name, &s)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return k, nil
}

// Unseal returns the connection that is sealed under id; it implements resolve.Unsealer.
// find looks up the connection of a KMS that the configuration does not name. A sealed field
// replaces the column, and the other columns stay as they are. The error is a *conn.Error: of
// kind Invalid where the extra is not a sealed form of a version that this package reads, of
// kind KeyRejected where it does not open, and never of kind Absent.
func (k *Keyring) Unseal(
	ctx context.Context, id string, sealed *conn.Connection, find Finder,
) (*conn.Connection, error) {
	text, _ := sealed.Extra.Reveal()
	f, err := parseForm(text)
	if err != nil {
		return nil, err
	}
	if err := k.checkCycle(ctx, f.KMSConnID); err != nil {
		return nil, err
	}
	if !k.knows(f.KMSConnID) {
		err := rejected("the sealed form names it, and "+reasonUnlisted, hintUnlisted)
		return nil, named(sourceName(f.KMSConnID), err)
	}
	s, err := k.service(ctx, f.KMSConnID, find)
	if err != nil {
		return nil, err
	}
	if s.settings.Type != f.KMSType {
		reason := fmt.Sprintf("it is of type %s, and the connection was sealed by one of type %s",
			s.settings.Type, printable(f.KMSType))
		return nil, named(s.name, rejected(reason, hintChanged))
	}
	payload, err := k.open(ctx, s, f, id)
	if err != nil {
		return nil, named(s.name, err)
	}
	defer clear(payload)
	c, err := put(sealed, f.Fields, payload)
	if err != nil {
		return nil, named(s.name, err)
	}
	return c, nil
}

// open returns the payload of a form.
func (k *Keyring) open(ctx context.Context, s *service, f *form, id string) ([]byte, error) {
	bound := f.context(id, k.tenant)
	if f.Mode == direct {
		return s.client.Decrypt(ctx, f.Extra, bound)
	}
	aad := f.aad(id, k.tenant)
	key, cached := k.keys.take(aad)
	if !cached {
		var err error
		if key, err = s.client.Decrypt(ctx, f.Extra, bound); err != nil {
			return nil, err
		}
	}
	defer clear(key)
	if len(key) != keySize {
		return nil, rejected("what the KMS decrypted is not a data key", hintChanged)
	}
	payload, ok := open(key, f.Payload, aad)
	if !ok {
		return nil, rejected(
			"the KMS opens the data key, but the data key does not open the fields", hintChanged,
		)
	}
	if !cached {
		k.keys.put(aad, key, s.settings.CacheTTL, s.settings.CacheUses)
	}
	return payload, nil
}

// Seal moves the named fields of plain into a sealed form, which becomes the extra of the
// result. The form is for the id, and the KMS kmsID opens it. Without names the fields are
// [DefaultFields]; the extra is always among them. find is as in Unseal, and may be nil where
// the configuration names the KMS. The error is a *conn.Error.
func (k *Keyring) Seal(
	ctx context.Context, id string, plain *conn.Connection, kmsID string, fields []string,
	find Finder,
) (*conn.Connection, error) {
	names, err := fieldNames(fields)
	switch {
	case err != nil:
		return nil, err
	case plain.Sealed():
		return nil, conn.Errorf(conn.Invalid, "", "the connection is sealed already")
	case id == "" || !utf8.ValidString(id):
		return nil, conn.Errorf(conn.Invalid, "", "the conn_id is empty or not UTF-8")
	}
	if err := k.unlisted(kmsID); err != nil {
		return nil, err
	}
	// The connection of the KMS, and of the KMS that seals that one, must open without this one.
	s, err := k.service(context.WithValue(ctx, sealing{}, id), kmsID, find)
	if err != nil {
		return nil, err
	}
	if k.named[kmsID] == nil && kmsID == id {
		return nil, cycle()
	}
	rest, payload, err := take(plain, names)
	if err != nil {
		return nil, err
	}
	defer clear(payload)
	f := &form{
		KMSConnID: kmsID, KMSType: s.settings.Type, Mode: cmp.Or(s.settings.Mode, envelope),
		Fields: names,
	}
	if err := k.encrypt(ctx, s.client, f, id, payload); err != nil {
		return nil, named(s.name, err)
	}
	text, err := f.text()
	if err != nil {
		return nil, failed("the sealed form cannot be written")
	}
	rest.Extra = conn.NewSecret(text)
	return rest, nil
}

// encrypt fills in the extra and payload of f.
func (k *Keyring) encrypt(
	ctx context.Context, client Client, f *form, id string, payload []byte,
) error {
	bound := f.context(id, k.tenant)
	if f.Mode == direct {
		var err error
		f.Extra, err = client.Encrypt(ctx, payload, bound)
		return err
	}
	key, extra, err := newDataKey(ctx, client, bound)
	if err != nil {
		return err
	}
	defer clear(key)
	f.Extra = extra
	if f.Payload, err = seal(key, payload, f.aad(id, k.tenant)); err != nil {
		return failed("the data key is not one of 256 bits")
	}
	return nil
}

// newDataKey returns a data key, and what the KMS made of it.
func newDataKey(
	ctx context.Context, client Client, bound Context,
) (key []byte, extra Extra, err error) {
	if g, ok := client.(dataKeyer); ok {
		return g.GenerateDataKey(ctx, bound)
	}
	key = make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return nil, nil, failed("the random numbers of the system fail")
	}
	if extra, err = client.Encrypt(ctx, key, bound); err != nil {
		clear(key)
		return nil, nil, err
	}
	return key, extra, nil
}

// knows reports whether a KMS may be used: one of the configuration, or a listed connection.
func (k *Keyring) knows(id string) bool {
	return k.named[id] != nil || slices.Contains(k.listed, id)
}

// unlisted returns the error of a KMS that a command names and nothing lists; nil where it is
// listed.
func (k *Keyring) unlisted(id string) error {
	if k.knows(id) {
		return nil
	}
	err := failed(reasonUnlisted)
	known := slices.Concat(slices.Sorted(maps.Keys(k.named)), k.listed)
	err.Hint = hintUnlisted
	if question := spelling.DidYouMean(id, known); question != "" {
		err.Hint = question + " Otherwise " + hintUnlisted
	}
	return named(sourceName(id), err)
}

// sealing is the context key of the id that is being sealed.
type sealing struct{}

// checkCycle refuses a KMS connection that is needed to open the connection that seals it.
func (k *Keyring) checkCycle(ctx context.Context, kmsID string) error {
	if id, _ := ctx.Value(sealing{}).(string); id != "" && id == kmsID && k.named[kmsID] == nil {
		return cycle()
	}
	return nil
}

func cycle() error {
	return rejected(
		"a KMS connection cannot be sealed by itself, nor by one that it seals",
		"seal it with a KMS of the configuration, or not at all",
	)
}
