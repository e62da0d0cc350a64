package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/kms"
)

// keyService is one [kms.NAME].
type keyService struct {
	name     string
	settings []Setting // the keys that are set
	kms.Settings
}

// maxCacheUses bounds how often an unwrapped data key is used again.
const maxCacheUses = 1_000_000

// typesOf are the types of KMS that a key is for; a key that is not here is for all.
var typesOf = map[string][]string{
	"region":                  {"aws"},
	"profile":                 {"aws"},
	"role_arn":                {"aws"},
	"external_id":             {"aws"},
	"web_identity_token_file": {"aws"},
	"credentials_file":        {"aws", "gcp"},
	"endpoint":                {"aws", "gcp"},
}

// keyServices returns every KMS by its name.
func (f *file) keyServices() map[string]kms.Settings {
	if len(f.kms) == 0 {
		return nil
	}
	all := make(map[string]kms.Settings, len(f.kms))
	for _, k := range f.kms {
		all[k.name] = k.Settings
	}
	return all
}

// readKMS reads every [kms.NAME].
func (l *loader) readKMS(root *table, f *file) {
	tables := root.subs("kms")
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		f.kms = append(f.kms, l.readKeyService(name, tables[name]))
	}
}

func (l *loader) readKeyService(name string, t *table) keyService {
	k, before := keyService{name: name}, len(t.report.errs)
	if name == "" || strings.ContainsRune(name, 0) {
		t.report.add(&Error{File: t.file, Line: t.pos.line, Key: "kms", Message: "its name is empty, or holds a NUL, and no sealed connection can name it"})
	}
	text := func(key string, to *string, checks ...check[string]) {
		v := value[string]{}
		t.text(key, &v, checks...)
		if *to = v.v; v.set {
			k.settings = append(k.settings, Setting{Key: t.key(key), Value: v.v, Origin: v.origin})
		}
	}
	file := func(key string, to *string) {
		if text(key, to); *to != "" {
			*to = l.find(*to)
			k.settings[len(k.settings)-1].Value = *to
		}
	}
	t.require("type", "a [kms.NAME] needs a type", `"aws", "gcp" or "local"`)
	text("type", &k.Type, oneOf("aws", "gcp", "local"))
	if k.Type == "local" {
		file("key", &k.Key)
	} else {
		text("key", &k.Key)
	}
	text("mode", &k.Mode, oneOf("envelope", "direct"))
	text("region", &k.Region)
	text("profile", &k.Profile)
	text("role_arn", &k.RoleARN)
	text("external_id", &k.ExternalID)
	file("web_identity_token_file", &k.WebIdentityTokenFile)
	file("credentials_file", &k.CredentialsFile)
	text("endpoint", &k.Endpoint)
	readKeyCache(t, &k)

	for _, key := range slices.Sorted(maps.Keys(typesOf)) {
		if _, ok := t.values[key]; ok && k.Type != "" && !slices.Contains(typesOf[key], k.Type) {
			t.fail(key, fmt.Sprintf("a KMS of type %q has no such key", k.Type), "it is for type "+strings.Join(typesOf[key], " or "))
		}
	}
	if len(t.report.errs) == before && !t.odd {
		checkKeyService(t, k.Settings)
	}
	if len(t.report.errs) == before {
		l.readKeyMaterial(t, &k.Settings)
	}
	return k
}

// checkKeyService reports what the KMS itself would not take: at the line of the key that
// the message begins with, where it begins with one.
func checkKeyService(t *table, s kms.Settings) {
	err := kms.CheckSettings(s)
	if err == nil {
		return
	}
	for _, message := range strings.Split(err.Error(), "\n") {
		key, rest, _ := strings.Cut(message, " ")
		if !slices.Contains(known("kms"), key) {
			key, rest = "key", message
		}
		t.fail(key, rest, "")
	}
}

// readKeyMaterial reads the files that hold keys themselves, which the children's user
// need not be able to read.
func (l *loader) readKeyMaterial(t *table, s *kms.Settings) {
	switch {
	case s.Type == "local":
		material, err := kms.ReadLocalKey(s.Key)
		var e *conn.Error
		if errors.As(err, &e) {
			t.fail("key", e.Reason, e.Hint)
		}
		s.Material = string(material)
		clear(material)
	case s.Type == "gcp" && s.CredentialsFile != "":
		s.Material, _, _ = l.readNamed(t, "credentials_file", s.CredentialsFile)
	}
}

// readKeyCache reads how long, and how often, an unwrapped data key is used again. One
// of the two alone would keep none, though it looks as if it did.
func readKeyCache(t *table, k *keyService) {
	ttl, uses := value[time.Duration]{}, value[int64]{}
	t.duration("cache_ttl", &ttl, 0, maxEpoch)
	t.integer("cache_uses", &uses, 0, maxCacheUses)
	if k.CacheTTL = ttl.v; ttl.set {
		k.settings = append(k.settings, Setting{Key: t.key("cache_ttl"), Value: short(ttl.v), Origin: ttl.origin})
	}
	if k.CacheUses = int(uses.v); uses.set {
		k.settings = append(k.settings, Setting{Key: t.key("cache_uses"), Value: uses.v, Origin: uses.origin})
	}
	switch {
	case ttl.v > 0 && !uses.set:
		t.fail("cache_ttl", "without cache_uses no data key is kept", "set both, or neither")
	case uses.v > 0 && !ttl.set:
		t.fail("cache_uses", "without cache_ttl no data key is kept", "set both, or neither")
	}
}
