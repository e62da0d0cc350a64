package kms_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/kms/kmstest"
)

// newSealer returns a sealer with two local KMS, "main" and "new", and their keyring.
func newSealer(t *testing.T) (*kms.Sealer, *kms.Keyring) {
	t.Helper()
	k, err := kms.NewKeyring(map[string]kms.Settings{
		"main": localSettings(t), "new": localSettings(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return kms.NewSealer(k, nil), k
}

func TestActionsOnRows(t *testing.T) {
	s, k := newSealer(t)
	plain := kmstest.Sample()
	sealed, err := k.Seal(t.Context(), "a", plain, "main", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	typed := *sealed
	typed.Password = conn.NewSecret("typed in the UI")
	takenOver := *plain
	takenOver.Password = typed.Password
	for name, c := range map[string]struct {
		change kms.Change
		kept   *conn.Connection
		done   string // and the KMS and the fields that it is then sealed by
		note   string // where there is no connection
		opens  *conn.Connection
	}{
		"seal": {
			kms.Change{Action: kms.ActionSeal, KMS: "main"}, plain,
			"sealed main extra,password", "", plain,
		},
		"seal some fields": {
			kms.Change{Action: kms.ActionSeal, KMS: "new", Fields: []string{"host"}}, plain,
			"sealed new extra,host", "", plain,
		},
		"seal all fields": {
			kms.Change{Action: kms.ActionSeal, KMS: "new", AllFields: true}, plain,
			"sealed new description,extra,host,login,password,port,schema", "", plain,
		},
		"seal again": {
			kms.Change{Action: kms.ActionSeal, KMS: "main"}, sealed,
			"unchanged", "sealed already", nil,
		},
		"seal what was typed": {
			kms.Change{Action: kms.ActionSeal, KMS: "main"}, &typed,
			"sealed main extra,password", "", &takenOver,
		},
		"unseal": {
			kms.Change{Action: kms.ActionUnseal}, sealed, "unsealed", "", plain,
		},
		"unseal what is in clear": {
			kms.Change{Action: kms.ActionUnseal}, plain, "unchanged", "not sealed", nil,
		},
		"reseal": {
			kms.Change{Action: kms.ActionReseal}, sealed,
			"resealed main extra,password", "", plain,
		},
		"reseal other fields for another KMS": {
			kms.Change{Action: kms.ActionReseal, KMS: "new", Fields: []string{"login"}}, sealed,
			"resealed new extra,login", "", plain,
		},
		"rotate to another KMS": {
			kms.Change{Action: kms.ActionRotate, KMS: "main", To: "new"}, sealed,
			"resealed new extra,password", "", plain,
		},
		"rotate to the present key": {
			kms.Change{Action: kms.ActionRotate, KMS: "main"}, sealed,
			"unchanged", "sealed by its present key", nil,
		},
		"rotate all": {
			kms.Change{Action: kms.ActionRotate, KMS: "main", All: true}, sealed,
			"resealed main extra,password", "", plain,
		},
		"rotate what another KMS sealed": {
			kms.Change{Action: kms.ActionRotate, KMS: "new"}, sealed,
			"unchanged", `sealed by the KMS "main"`, nil,
		},
		"rotate what is in clear": {
			kms.Change{Action: kms.ActionRotate, KMS: "main"}, plain,
			"unchanged", "not sealed", nil,
		},
	} {
		c.change.ID = "a"
		changed, err := s.Row(t.Context(), c.change, c.kept)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, done := changed.Connection, changed.Done
		if c.opens == nil {
			if got != nil || done != c.done || changed.Note != c.note {
				t.Errorf("%s: %q %q, want %q %q", name, done, changed.Note, c.done, c.note)
			}
			continue
		}
		if d, err := kms.Describe(got); err == nil && got.Sealed() {
			done += " " + d.KMSConnID + " " + strings.Join(d.Fields, ",")
			if got, err = k.Unseal(t.Context(), "a", got, nil); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
		}
		if done != c.done {
			t.Errorf("%s: %q, want %q", name, done, c.done)
		}
		if diff := cmp.Diff(kmstest.Fields(c.opens), kmstest.Fields(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestActionsThatAreRefused(t *testing.T) {
	s, k := newSealer(t)
	sealed, err := k.Seal(t.Context(), "a", kmstest.Sample(), "main", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	typed := *sealed
	typed.Password = conn.NewSecret("typed in the UI")
	for name, c := range map[string]struct {
		change kms.Change
		kept   *conn.Connection
		says   string
	}{
		"seal by another KMS": {
			kms.Change{
				Action: kms.ActionSeal, KMS: "new",
			}, sealed, `sealed already, by the KMS "main"`,
		},
		"seal other fields": {
			kms.Change{Action: kms.ActionSeal, KMS: "main", Fields: []string{"host"}}, sealed,
			"sealed already",
		},
		"reseal what is in clear": {
			kms.Change{Action: kms.ActionReseal, KMS: "main"}, kmstest.Sample(), "is not sealed",
		},
		"unseal what was typed over": {
			kms.Change{Action: kms.ActionUnseal}, &typed, "holds a value in clear",
		},
		"rotate what was typed over": {
			kms.Change{Action: kms.ActionRotate, KMS: "main", To: "new"}, &typed,
			"holds a value in clear",
		},
		"unseal what is spoiled": {
			kms.Change{Action: kms.ActionUnseal},
			&conn.Connection{Extra: conn.NewSecret(`{"connfs_sealed": 1, "timeout": 30}`)},
			"kms_conn_id is missing",
		},
	} {
		c.change.ID = "a"
		changed, err := s.Row(t.Context(), c.change, c.kept)
		var e *conn.Error
		if !errors.As(err, &e) || e.Kind != conn.Invalid || !strings.Contains(e.Reason, c.says) ||
			changed.Connection != nil {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestValuesAreTheTextThatABackendKeeps(t *testing.T) {
	s, _ := newSealer(t)
	seal := kms.Change{Action: kms.ActionSeal, ID: "a", KMS: "main"}
	all := seal
	all.AllFields = true
	unseal := kms.Change{Action: kms.ActionUnseal, ID: "a"}
	plain, err := conn.Parse("postgres://u:p@h:1/s")
	if err != nil {
		t.Fatal(err)
	}
	want, err := plain.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for change, begins := range map[*kms.Change]string{
		&seal: `{"conn_type":"postgres","description":null,"host":"h",`,
		&all:  `{"connfs_sealed":1,`,
	} {
		text, changed, err := s.Value(t.Context(), *change, plain)
		if err != nil || changed.Done != "sealed" || !strings.HasPrefix(string(text), begins) {
			t.Errorf("%q %v, want it to begin with %q", changed.Done, err, begins)
			continue
		}
		back, err := conn.Parse(string(text))
		if err != nil {
			t.Fatal(err)
		}
		text, changed, err = s.Value(t.Context(), unseal, back)
		if err != nil || changed.Done != "unsealed" || !slices.Equal(text, want) {
			t.Errorf("%q %v, want what was sealed", changed.Done, err)
		}
	}
	if _, _, err := s.Value(t.Context(), unseal, plain); conn.KindOf(err) != conn.Invalid {
		t.Errorf("unsealing what is in clear: %v", err)
	}
	// The JSON form has no text for an empty conn_type; sealed, it has.
	empty := &conn.Connection{Type: text(""), Extra: conn.NewSecret("{}")}
	if _, _, err := s.Value(t.Context(), seal, empty); conn.KindOf(err) != conn.Invalid {
		t.Errorf("an empty conn_type: %v", err)
	}
	if _, changed, err := s.Value(t.Context(), all, empty); err != nil || changed.Done != "sealed" {
		t.Errorf("an empty conn_type that is sealed too: %v", err)
	}
}
