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
	sealed   bool      // every connection must be sealed by it, or by another that says so
	kms.Settings
}

// maxCacheUses bounds how often an unwrapped data key is used again.
const maxCacheUses = 1_000_000

// kmsKeys returns the keys that a [kms.NAME] of any type may hold.
func kmsKeys() []string {
	names := []string{"type"}
	for _, kind := range kms.Kinds() {
		for _, key := range kind.Keys {
			if !slices.Contains(names, key.Name) {
				names = append(names, key.Name)
			}
		}
	}
	return append(names, "mode", "cache_ttl", "cache_uses", "sealed")
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

// sealedBy returns the names of the KMS that demand that every connection is sealed.
func (f *file) sealedBy() (names []string) {
	for _, k := range f.kms {
		if k.sealed {
			names = append(names, k.name)
		}
	}
	return names
}

// checkSealed reports grants that demand sealed connections where nothing could be sealed, and
// warns where those who write connections can seal them.
func (l *loader) checkSealed(f *file) {
	demanded := false
	for _, r := range f.rules {
		demanded = demanded || r.Sealed
		if r.Sealed && len(f.kms)+len(f.kmsConnections.v) == 0 {
			l.add(&Error{
				File: r.File, Line: r.Line, Key: "grant.sealed",
				Message: "no KMS is configured, so nothing that it grants could be read",
				Hint:    "add a [kms.NAME], or kms_connections",
			})
		}
	}
	if demanded && len(f.kmsConnections.v) > 0 && len(f.sealedBy()) == 0 {
		l.warn("kms_connections: whoever can write %s can seal connections, also for grants with "+
			"sealed = true; with sealed = true in a [kms.NAME] only that KMS counts",
			quotedOr(f.kmsConnections.v))
	}
}

// readKMS reads every [kms.NAME], and checks the list of connections beside them.
func (l *loader) readKMS(root *table, f *file) {
	tables := root.subs("kms")
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		f.kms = append(f.kms, l.readKeyService(name, tables[name]))
	}
	for i, id := range f.kmsConnections.v {
		message, hint := "", "leave one of the two out"
		switch {
		case tables[id] != nil:
			message = fmt.Sprintf("[kms.%s] has the same name, and the connection is not read", id)
		case slices.Contains(f.kmsConnections.v[:i], id):
			message = fmt.Sprintf("%q is in the list twice", id)
		default:
			continue
		}
		l.add(&Error{
			File: f.path, Line: root.pos.at("kms_connections").elem(i).line,
			Key: "kms_connections", Message: message, Hint: hint,
		})
	}
}

func (l *loader) readKeyService(name string, t *table) keyService {
	k, before := keyService{name: name}, len(t.report.errs)
	if name == "" || strings.ContainsRune(name, 0) {
		t.report.add(&Error{
			File: t.file, Line: t.pos.line, Key: "kms",
			Message: "the NAME of a [kms.NAME] cannot be empty or hold a NUL",
			Hint:    "sealed connections call the KMS by that name",
		})
	}
	types := kms.Types()
	t.require("type", "a [kms.NAME] needs a type", "it may be "+quotedOr(types))
	k.Type = k.text(t, "type", oneOf(types...))
	kind := kms.Lookup(k.Type)
	if kind != nil {
		l.readKindKeys(t, kind, &k)
	}
	k.Mode = k.text(t, "mode", oneOf("envelope", "direct"))
	readKeyCache(t, &k)
	sealed := value[bool]{}
	if t.boolean("sealed", &sealed); sealed.set {
		k.settings = append(k.settings,
			Setting{Key: t.key("sealed"), Value: sealed.v, Origin: sealed.origin})
	}
	k.sealed = sealed.v
	if kind == nil || len(t.report.errs) > before || t.hasUnknown {
		return k
	}
	for _, wrong := range kms.CheckSettings(k.Settings) {
		t.fail(wrong.Key, wrong.Problem, wrong.Hint)
	}
	if len(t.report.errs) == before {
		l.readContents(t, kind, &k)
	}
	return k
}

// text reads a key whose value is text, and returns the value.
func (k *keyService) text(t *table, name string, checks ...check[string]) string {
	v := value[string]{}
	if t.text(name, &v, checks...); v.set {
		k.settings = append(k.settings, Setting{Key: t.key(name), Value: v.v, Origin: v.origin})
	}
	return v.v
}

// readKindKeys reads the keys that the kind of a KMS declares, and refuses those that only
// other kinds have.
func (l *loader) readKindKeys(t *table, kind *kms.Kind, k *keyService) {
	for _, key := range kind.Keys {
		text := k.text(t, key.Name)
		if text == "" {
			continue
		}
		if key.Form != kms.Text {
			text = l.find(text)
			k.settings[len(k.settings)-1].Value = text
		}
		if k.Values == nil {
			k.Values = make(map[string]string)
		}
		k.Values[key.Name] = text
	}
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		if _, ok := kind.Key(name); ok {
			continue
		}
		var types []string
		for _, other := range kms.Kinds() {
			if _, ok := other.Key(name); ok {
				types = append(types, other.Type)
			}
		}
		if len(types) > 0 {
			t.fail(name, fmt.Sprintf("a KMS of type %q has no such key", kind.Type),
				"it is for type "+quotedOr(types))
		}
	}
}

// readContents reads the files with secrets, which the children's user need not be able
// to read.
func (l *loader) readContents(t *table, kind *kms.Kind, k *keyService) {
	for _, key := range kind.Keys {
		path := k.Values[key.Name]
		if key.Form != kms.SecretFile || path == "" {
			continue
		}
		if k.Contents == nil {
			k.Contents = make(map[string]kms.Content)
		}
		if key.Read == nil {
			text, _, _ := l.readNamed(t, key.Name, path)
			k.Contents[key.Name] = kms.Content(text)
			continue
		}
		content, err := key.Read(path)
		var e *conn.Error
		if errors.As(err, &e) {
			t.fail(key.Name, e.Reason, e.Hint)
		}
		k.Contents[key.Name] = kms.Content(content)
		clear(content)
	}
}

// readKeyCache reads how long, and how often, an unwrapped data key is used again. One
// without the other would keep no key, and look as if it did.
func readKeyCache(t *table, k *keyService) {
	ttl, uses := value[time.Duration]{}, value[int64]{}
	t.duration("cache_ttl", &ttl, 0, maxEpoch)
	t.integer("cache_uses", &uses, 0, maxCacheUses)
	if k.CacheTTL = ttl.v; ttl.set {
		k.settings = append(k.settings,
			Setting{Key: t.key("cache_ttl"), Value: short(ttl.v), Origin: ttl.origin})
	}
	if k.CacheUses = int(uses.v); uses.set {
		k.settings = append(k.settings,
			Setting{Key: t.key("cache_uses"), Value: uses.v, Origin: uses.origin})
	}
	switch {
	case ttl.v > 0 && !uses.set:
		t.fail("cache_ttl", "without cache_uses no data key is kept", "set both, or neither")
	case uses.v > 0 && !ttl.set:
		t.fail("cache_uses", "without cache_ttl no data key is kept", "set both, or neither")
	}
}
