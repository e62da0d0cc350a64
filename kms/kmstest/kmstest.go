// Package kmstest is what every KMS must do, as a test suite.
package kmstest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
)

// Harness describes the KMS under test.
type Harness struct {
	// Settings are those of a KMS that works.
	Settings kms.Settings
	// Other are those of the same KMS with another key.
	Other kms.Settings
	// Unreachable are those of one that is not there; nil: this type always is.
	Unreachable *kms.Settings
	// Failures are states of the KMS or of its key, by name.
	Failures map[string]Failure
	// DirectLimit is how many bytes it encrypts in direct mode; 0: more than the suite
	// tries.
	DirectLimit int
	// Lies are tamperings, by name, for which this server has another kind of error than
	// the service that it stands for.
	Lies map[string]conn.Kind
}

// Failure is a state in which sealing and unsealing fail.
type Failure struct {
	// Begin brings the state about, and the function that it returns ends it.
	Begin func(t *testing.T) (end func())
	Kind  conn.Kind
	// Says is a part of the error's text.
	Says string
}

const (
	name = "main"
	id   = "team/postgres"
)

// secret is in every connection that the suite seals, and in no error.
const secret = "Se3ret-of-the-suite"

// Run tests the KMS that h describes.
func Run(t *testing.T, h Harness) {
	for _, mode := range []string{"envelope", "direct"} {
		t.Run(mode, func(t *testing.T) {
			h := h
			h.Settings.Mode, h.Other.Mode = mode, mode
			t.Run("what is sealed unseals to the same", h.roundTrip)
			t.Run("no part can be changed", h.tampering)
			t.Run("a form survives being written anew", h.rewritten)
			t.Run("other columns may change", h.columns)
			t.Run("sizes", h.sizes)
			t.Run("states of the key", h.failures)
		})
	}
	t.Run("a caller who gives up is let go", h.canceled)
	t.Run("a KMS that is not there is unreachable", h.unreachable)
	t.Run("many callers are served at once", h.concurrent)
	t.Run("it can be checked", h.check)
}

// Settings returns the settings of a KMS of that type, with keys and their values in turn.
func Settings(kmsType string, pairs ...string) kms.Settings {
	return With(kms.Settings{Type: kmsType}, pairs...)
}

// With returns a copy of the settings with other values: keys and their values in turn.
func With(s kms.Settings, pairs ...string) kms.Settings {
	values := maps.Clone(s.Values)
	if values == nil {
		values = make(map[string]string)
	}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	s.Values = values
	return s
}

// Keyring returns a keyring with one KMS, "main", and those that the listed connections
// describe. t closes it.
func Keyring(t testing.TB, s kms.Settings, listed ...string) *kms.Keyring {
	t.Helper()
	k, err := kms.NewKeyring(map[string]kms.Settings{name: s}, listed...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return k
}

// Sample returns a connection with every field.
func Sample() *conn.Connection {
	text := func(s string) *string { return &s }
	port := int64(5432)
	return &conn.Connection{
		Type: text("postgres"), Description: text("billing"), Host: text("db.example"),
		Login: text("user"), Password: conn.NewSecret(secret), Schema: text(""), Port: &port,
		Extra: conn.NewSecret("no JSON: \u2028 <é😀>\x00\n" + secret),
	}
}

// Fields returns the fields of a connection as a map that can be compared and shown. The
// values are those of tests.
func Fields(c *conn.Connection) map[string]any {
	m := map[string]any{
		"conn_type": c.Type, "description": c.Description, "host": c.Host,
		"login": c.Login, "schema": c.Schema, "port": c.Port,
	}
	for name, s := range map[string]conn.Secret{"password": c.Password, "extra": c.Extra} {
		if text, ok := s.Reveal(); ok {
			m[name] = text
		}
	}
	return m
}

func (h Harness) roundTrip(t *testing.T) {
	k := Keyring(t, h.Settings)
	for name, plain := range map[string]*conn.Connection{"full": Sample(), "empty": {}} {
		for _, fields := range [][]string{
			nil, {"password"}, {"host", "login", "host"}, kms.AllFields(),
		} {
			sealed := sealTo(t, k, id, plain, fields)
			text, _ := sealed.Extra.Reveal()
			if strings.Contains(text, secret) || sealed.Password != (conn.Secret{}) &&
				fields == nil {
				t.Errorf("%s %q: a secret is left in the sealed connection", name, fields)
			}
			back, err := k.Unseal(t.Context(), id, sealed, nil)
			if err != nil {
				t.Errorf("%s %q: %v", name, fields, err)
				continue
			}
			if diff := cmp.Diff(Fields(plain), Fields(back)); diff != "" {
				t.Errorf("%s %q (-want +got):\n%s", name, fields, diff)
			}
		}
	}
	// Another process, with nothing but the settings, opens it too.
	back, err := Keyring(t, h.Settings).Unseal(
		t.Context(), id, sealTo(t, k, id, Sample(), nil), nil,
	)
	if err != nil || !cmp.Equal(Fields(back), Fields(Sample())) {
		t.Errorf("in another process: %v", err)
	}
}

func sealTo(
	t testing.TB, k *kms.Keyring, id string, plain *conn.Connection, fields []string,
) *conn.Connection {
	t.Helper()
	sealed, err := k.Seal(t.Context(), id, plain, name, fields, nil)
	if err != nil {
		t.Fatalf("sealing: %v", err)
	}
	return sealed
}

// object is a sealed form that a test changes.
type object map[string]any

func formOf(t testing.TB, c *conn.Connection) object {
	t.Helper()
	text, _ := c.Extra.Reveal()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var o object
	if err := d.Decode(&o); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o object) extra() object { return o["kms_extra"].(map[string]any) }

// flip changes one bit of a base64 text: of the byte at that place, from the end where
// it is negative.
func (o object) flip(key string, at int) {
	b, err := base64.StdEncoding.DecodeString(o[key].(string))
	if err != nil {
		panic(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	o[key] = base64.StdEncoding.EncodeToString(b)
}

// cut shortens a base64 text by some bytes.
func (o object) cut(key string, n int) {
	b, _ := base64.StdEncoding.DecodeString(o[key].(string))
	o[key] = base64.StdEncoding.EncodeToString(b[:len(b)-n])
}

// with returns c with the object as its extra.
func with(c *conn.Connection, o object) *conn.Connection {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	changed := *c
	changed.Extra = conn.NewSecret(string(text))
	return &changed
}

// tampering is the table of what somebody who can write where sealed forms are kept
// might try.
func (h Harness) tampering(t *testing.T) {
	direct := h.Settings.Mode == "direct"
	k, err := kms.NewKeyring(
		map[string]kms.Settings{name: h.Settings, "twin": h.Settings, "other": h.Other},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Close() }()
	sealed := sealTo(t, k, id, Sample(), nil)
	another := Sample()
	another.Password = conn.NewSecret("another")
	same := formOf(t, sealTo(t, k, id, another, nil))
	elsewhere := formOf(t, sealTo(t, k, id+"2", Sample(), nil))
	whole := formOf(t, sealTo(t, k, id, Sample(), kms.AllFields()))
	opposite := h.Settings
	opposite.Mode = map[bool]string{true: "envelope", false: "direct"}[direct]
	inOtherMode := formOf(t, sealTo(t, Keyring(t, opposite), id, Sample(), nil))
	// A data key that the same KMS made for the other key.
	underOther, err := k.Seal(t.Context(), id, Sample(), "other", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := formOf(t, underOther)

	if _, err := k.Unseal(t.Context(), id, sealed, nil); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	try := func(what, id string, c *conn.Connection, want conn.Kind) {
		t.Helper()
		if lie, ok := h.Lies[what]; ok {
			want = lie
		}
		_, err := k.Unseal(t.Context(), id, c, nil)
		var e *conn.Error
		switch {
		case err == nil:
			t.Errorf("%s: it opens", what)
		case !errors.As(err, &e) || e.Kind != want:
			t.Errorf("%s: %v, want %v", what, err, want)
		case strings.Contains(err.Error(), secret):
			t.Errorf("%s: the error shows the password", what)
		case want == conn.KeyRejected && e.Reason == "":
			t.Errorf("%s: %v does not say why", what, err)
		}
	}
	for _, other := range []string{
		"", id + "2", "TEAM/POSTGRES", id + " ", "team/postgres\x00", "other",
	} {
		try("moved to another id", other, sealed, conn.KeyRejected)
	}
	for what, change := range map[string]func(o object){
		"another KMS with the same key": func(o object) { o["kms_conn_id"] = "twin" },
		"another KMS with another key":  func(o object) { o["kms_conn_id"] = "other" },
		"another type": func(o object) {
			o["kms_type"] = otherType(h.Settings.Type)
		},
		"other fields": func(o object) { o["fields"] = "extra" },
		"more fields":  func(o object) { o["fields"] = "extra,host,password" },
		"another key's name": func(o object) {
			o.extra()["key"] = foreign.extra()["key"]
		},
		"a key that does not exist":   func(o object) { o.extra()["key"] = "nothing" },
		"no key's name":               func(o object) { o.extra()["key"] = "" },
		"first bit of the ciphertext": func(o object) { o.extra().flip("ciphertext", 0) },
		"middle bit of the ciphertext": func(o object) {
			o.extra().flip("ciphertext", len(o.extra()["ciphertext"].(string))*3/8)
		},
		"last bit of the ciphertext":    func(o object) { o.extra().flip("ciphertext", -1) },
		"ciphertext cut by one":         func(o object) { o.extra().cut("ciphertext", 1) },
		"ciphertext cut by twenty":      func(o object) { o.extra().cut("ciphertext", 20) },
		"no ciphertext":                 func(o object) { o.extra()["ciphertext"] = "" },
		"ciphertext that is not base64": func(o object) { o.extra()["ciphertext"] = "?" },
		"ciphertext with a line break": func(o object) {
			o.extra()["ciphertext"] = "\n" + o.extra()["ciphertext"].(string)
		},
		"something more in kms_extra": func(o object) { o.extra()["region"] = "here" },
		"no ciphertext key":           func(o object) { delete(o.extra(), "ciphertext") },
		"kms_extra of another id": func(o object) {
			o["kms_extra"] = elsewhere["kms_extra"]
		},
		"kms_extra of another key": func(o object) {
			o["kms_extra"] = foreign["kms_extra"]
		},
		"kms_extra of the other mode": func(o object) {
			o["kms_extra"] = inOtherMode["kms_extra"]
		},
		"kms_extra of the whole, as fewer": func(o object) {
			o["kms_extra"] = whole["kms_extra"]
			o["payload"] = whole["payload"]
		},
		"everything of another KMS's form": func(o object) {
			clear(o)
			copyTo(o, foreign)
			o["kms_conn_id"] = name
		},
		"everything of another id's form": func(o object) { clear(o); copyTo(o, elsewhere) },
	} {
		o := formOf(t, sealed)
		change(o)
		if direct && o["payload"] == nil {
			delete(o, "payload")
		}
		try(what, id, with(sealed, o), conn.KeyRejected)
	}
	for what, change := range map[string]func(o object){
		"another version":       func(o object) { o[conn.SealedKey] = 2 },
		"version zero":          func(o object) { o[conn.SealedKey] = 0 },
		"a version as text":     func(o object) { o[conn.SealedKey] = "1" },
		"another mode":          func(o object) { o["mode"] = opposite.Mode },
		"an unknown mode":       func(o object) { o["mode"] = "both" },
		"an unknown key":        func(o object) { o["added"] = "by a form" },
		"an unknown field":      func(o object) { o["fields"] = "extra,secret" },
		"fields out of order":   func(o object) { o["fields"] = "password,extra" },
		"a field twice":         func(o object) { o["fields"] = "extra,extra,password" },
		"fields without extra":  func(o object) { o["fields"] = "password" },
		"no fields":             func(o object) { delete(o, "fields") },
		"no KMS":                func(o object) { delete(o, "kms_conn_id") },
		"an empty KMS":          func(o object) { o["kms_conn_id"] = "" },
		"a KMS that is a list":  func(o object) { o["kms_conn_id"] = []string{name} },
		"a number in kms_extra": func(o object) { o.extra()["key"] = 1 },
		"kms_extra as text":     func(o object) { o["kms_extra"] = "{}" },
	} {
		o := formOf(t, sealed)
		change(o)
		try(what, id, with(sealed, o), conn.Invalid)
	}
	if direct {
		return
	}
	for what, change := range map[string]func(o object){
		"first bit of the payload": func(o object) { o.flip("payload", 0) },
		"a bit after the nonce":    func(o object) { o.flip("payload", 12) },
		"last bit of the payload":  func(o object) { o.flip("payload", -1) },
		"payload cut by one":       func(o object) { o.cut("payload", 1) },
		"payload of five bytes":    func(o object) { o["payload"] = "AAAAAAA=" },
		"payload of the same id":   func(o object) { o["payload"] = same["payload"] },
		"kms_extra of the same id": func(o object) { o["kms_extra"] = same["kms_extra"] },
		"payload of another id": func(o object) {
			o["payload"] = elsewhere["payload"]
		},
		"payload and kms_extra of another": func(o object) {
			o["payload"] = elsewhere["payload"]
			o["kms_extra"] = elsewhere["kms_extra"]
		},
		"a payload that says fewer fields": func(o object) { o["payload"] = whole["payload"] },
		"payload and kms_extra of all": func(o object) {
			o["payload"] = whole["payload"]
			o["kms_extra"] = whole["kms_extra"]
		},
		"payload and kms_extra of other key": func(o object) {
			o["payload"] = foreign["payload"]
			o["kms_extra"] = foreign["kms_extra"]
		},
	} {
		o := formOf(t, sealed)
		change(o)
		try(what, id, with(sealed, o), conn.KeyRejected)
	}
	for what, change := range map[string]func(o object){
		"no payload":                 func(o object) { delete(o, "payload") },
		"payload that is not base64": func(o object) { o["payload"] = "%" },
		"payload of two encodings":   func(o object) { o["payload"] = "AB==" },
	} {
		o := formOf(t, sealed)
		change(o)
		try(what, id, with(sealed, o), conn.Invalid)
	}
}

func copyTo(to, from object) {
	for key, value := range from {
		to[key] = value
	}
}

// otherType returns the type of another kind of KMS.
func otherType(than string) string {
	types := kms.Types()
	if i := slices.Index(types, than); i > 0 {
		return types[0]
	}
	return types[1]
}

// rewritten writes the form as Python's json.dumps(indent=2, sort_keys=True) would, and
// with every letter escaped.
func (h Harness) rewritten(t *testing.T) {
	k := Keyring(t, h.Settings)
	sealed := sealTo(t, k, id, Sample(), nil)
	indented, err := json.MarshalIndent(formOf(t, sealed), " ", "\t")
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := sealed.Extra.Reveal()
	var escaped strings.Builder
	inText := false
	for _, r := range plain {
		switch {
		case r == '"':
			inText = !inText
			escaped.WriteRune(r)
		case inText:
			escaped.WriteString(
				`\u00` + string("0123456789ABCDEF"[r>>4]) + string("0123456789abcdef"[r&15]),
			)
		default:
			escaped.WriteRune(r)
		}
	}
	for what, text := range map[string]string{
		"indented": " \r\n" + string(indented) + "\n", "escaped": escaped.String(),
	} {
		changed := *sealed
		changed.Extra = conn.NewSecret(text)
		back, err := k.Unseal(t.Context(), id, &changed, nil)
		if err != nil || !cmp.Equal(Fields(back), Fields(Sample())) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// columns edits what stands beside the sealed form.
func (h Harness) columns(t *testing.T) {
	k := Keyring(t, h.Settings)
	host, port := "new.example", int64(1)
	for what, plain := range map[string]*conn.Connection{
		"with a password": Sample(), "without": {Type: Sample().Type},
	} {
		sealed := sealTo(t, k, id, plain, nil)
		sealed.Host, sealed.Port, sealed.Login, sealed.Password = &host, &port, nil, conn.NewSecret(
			"typed in the UI",
		)
		want := *plain
		want.Host, want.Port, want.Login = &host, &port, nil
		got, err := k.Unseal(t.Context(), id, sealed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Fields(&want), Fields(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		d, err := kms.Describe(sealed)
		want2 := kms.Description{
			Version: 1, KMSConnID: name, KMSType: h.Settings.Type,
			Mode: h.Settings.Mode, Key: d.Key,
			Fields: []string{"extra", "password"}, Ignored: []string{"password"},
		}
		if diff := cmp.Diff(want2, d); diff != "" || err != nil || d.Key == "" {
			t.Errorf("%s: %v (-want +got):\n%s", what, err, diff)
		}
	}
}

func (h Harness) sizes(t *testing.T) {
	k := Keyring(t, h.Settings)
	for _, size := range []int{0, 1, 4000, 100_000} {
		plain := &conn.Connection{Extra: conn.NewSecret(strings.Repeat("x", size))}
		sealed, err := k.Seal(t.Context(), id, plain, name, nil, nil)
		if limit := h.DirectLimit; h.Settings.Mode == "direct" && limit > 0 && size > limit {
			if err == nil || conn.KindOf(err) != conn.Failed ||
				!strings.Contains(err.Error(), "envelope") {
				t.Errorf("%d bytes: %v, want a refusal that names the other mode", size, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
			continue
		}
		back, err := k.Unseal(t.Context(), id, sealed, nil)
		if err != nil || !cmp.Equal(Fields(back), Fields(plain)) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// recovery is how long a client may need until it sees that its KMS is there again.
const recovery = 20 * time.Second

func (h Harness) failures(t *testing.T) {
	for what, f := range h.Failures {
		k := Keyring(t, h.Settings)
		sealed := sealTo(t, k, id, Sample(), nil)
		end := f.Begin(t)
		deadline := 6 * time.Second // some of them are tried again until it is near
		if f.Kind == conn.Timeout {
			deadline = 2 * time.Second
		}
		within := func(call func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			return call(ctx)
		}
		err := within(func(ctx context.Context) error {
			_, err := k.Unseal(ctx, id, sealed, nil)
			return err
		})
		sealErr := within(func(ctx context.Context) error {
			_, err := k.Seal(ctx, id, Sample(), name, nil, nil)
			return err
		})
		end()
		for verb, err := range map[string]error{"unsealing": err, "sealing": sealErr} {
			if err == nil || conn.KindOf(err) != f.Kind || !strings.Contains(err.Error(), f.Says) ||
				!strings.HasPrefix(err.Error(), "kms "+name+": ") {
				t.Errorf("%s, %s: %v, want %v: %s", what, verb, err, f.Kind, f.Says)
			}
		}
		// A client may wait a moment before it connects again.
		var afterwards error
		for end := time.Now().Add(recovery); time.Now().Before(end); time.Sleep(recovery / 100) {
			if _, afterwards = k.Unseal(t.Context(), id, sealed, nil); afterwards == nil {
				break
			}
		}
		if afterwards != nil {
			t.Errorf("%s, afterwards: %v", what, afterwards)
		}
	}
}

// prompt is how long a call may take to notice that its caller gave up.
const prompt = 2 * time.Second

func (h Harness) canceled(t *testing.T) {
	k := Keyring(t, h.Settings)
	sealed := sealTo(t, k, id, Sample(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	_, err := k.Unseal(ctx, id, sealed, nil)
	if err == nil && h.Unreachable == nil {
		return // nothing to wait for
	}
	if conn.KindOf(err) != conn.Timeout || time.Since(start) > prompt {
		t.Errorf("%v after %v, want a timeout at once", err, time.Since(start))
	}
	if _, err := k.Unseal(t.Context(), id, sealed, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func (h Harness) unreachable(t *testing.T) {
	if h.Unreachable == nil {
		return // this type is always there
	}
	k := Keyring(t, *h.Unreachable)
	sealed := sealTo(t, Keyring(t, h.Settings), id, Sample(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	start := time.Now()
	if _, err := k.Unseal(ctx, id, sealed, nil); err == nil ||
		conn.KindOf(err) != conn.Unreachable {
		t.Errorf("%v, want unreachable", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, c := range k.Check(ctx, nil) {
		if conn.KindOf(c.Err) != conn.Unreachable {
			t.Errorf("check: %s: %v, want unreachable", c.Call, c.Err)
		}
	}
}

func (h Harness) concurrent(t *testing.T) {
	k := Keyring(t, h.Settings)
	sealed := sealTo(t, Keyring(t, h.Settings), id, Sample(), nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				back, err := k.Unseal(t.Context(), id, sealed, nil)
				if err != nil || !cmp.Equal(Fields(back), Fields(Sample())) {
					t.Errorf("unsealing: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func (h Harness) check(t *testing.T) {
	checks := Keyring(t, h.Settings).Check(t.Context(), nil)
	if len(checks) != 2 {
		t.Fatalf("%d results, want one for each verb", len(checks))
	}
	for i, c := range checks {
		if c.Name != name || c.Call == "" || c.Err != nil ||
			(c.Only == conn.OnlySealing) != (i == 0) {
			t.Errorf("%+v", c)
		}
	}
}
