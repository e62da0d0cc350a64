package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/settings"
)

// Setting is one effective key.
type Setting struct {
	Key    string // "metastore.url"; "grant[0].connections" for the tables of an array
	Value  any    // what encoding/json can write; a [conn.Secret] where Secret is set
	Origin string // "file:line", "variable NAME", "command of ...", "default", ...
	Secret bool
}

// WriteSettings writes settings one a line: "key = value  # origin" with values
// as TOML writes them, or one JSON object with key, value and origin. Secrets
// show as [redacted] unless showSecrets is set.
func WriteSettings(w io.Writer, list []Setting, showSecrets, asJSON bool) error {
	for _, s := range list {
		v := s.Value
		if secret, ok := v.(conn.Secret); ok {
			v = "[redacted]"
			if text, _ := secret.Reveal(); showSecrets {
				v = text
			}
		}
		if err := writeSetting(w, s, v, asJSON); err != nil {
			return fmt.Errorf("writing the settings: %w", err)
		}
	}
	return nil
}

func writeSetting(w io.Writer, s Setting, v any, asJSON bool) error {
	encode := func(w io.Writer, v any) error {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
	if asJSON {
		return encode(w, struct {
			Key    string `json:"key"`
			Value  any    `json:"value"`
			Origin string `json:"origin"`
		}{s.Key, v, s.Origin})
	}
	// A JSON string, boolean, number or list of strings is one of TOML's too.
	var text strings.Builder
	if err := encode(&text, v); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s = %s  # %s\n", s.Key, strings.TrimSuffix(text.String(), "\n"),
		s.Origin)
	return err
}

// effective lists every key that this version has, in the order of the contract.
func (l *loader) effective(f *file, a *airflow, h home, child account,
	front settings.Front) []Setting {
	var list []Setting
	add := func(key string, v any, origin string) {
		list = append(list, Setting{Key: key, Value: v, Origin: origin})
	}
	secret := func(key string, v value[string]) {
		list = append(list, Setting{Key: key, Value: conn.NewSecret(v.v), Origin: v.from(),
			Secret: true})
	}

	add("include", orEmpty(f.include.v), f.include.from())
	add("airflow_home", h.path, cmp.Or(h.origin, "default"))
	if f.homeSettings.set {
		add("airflow_home_settings", orEmpty(f.homeSettings.v), f.homeSettings.from())
	}
	add("order", f.order.v, f.order.from())
	add("on_error", f.onError.v, f.onError.from())
	add("ttl", short(f.ttl.v), f.ttl.from())
	add("negative_ttl", short(f.negativeTTL.v), f.negativeTTL.from())
	add("epoch", short(front.Epoch), f.epoch.from())
	add("timeout", short(f.timeout.v), f.timeout.from())
	add("share_names", f.shareNames.v, f.shareNames.from())
	add("user", child.name, cmp.Or(child.origin, "default"))
	add("writable", orEmpty(f.writable.v), f.writable.from())
	add("memory_lock", f.memoryLock.v, f.memoryLock.from())
	add("kms_connections", orEmpty(f.kmsConnections.v), f.kmsConnections.from())

	if a.metastore != nil && holdsPassword(a.url.v) {
		secret("metastore.url", a.url)
	} else if a.metastore != nil {
		add("metastore.url", a.url.v, a.url.from())
	} else {
		add("metastore.url", "", "default")
	}
	if a.fernetKey.v != "" {
		secret("metastore.fernet_key", a.fernetKey)
	} else {
		add("metastore.fernet_key", "", a.fernetKey.from())
	}
	if a.schema.v != "" {
		add("metastore.schema", a.schema.v, a.schema.from())
	}
	add("metastore.dags", f.dags.v, f.dags.from())
	add("metastore.dags_every", short(f.dagsEvery.v), f.dagsEvery.from())
	add("metastore.dags_keep", short(f.dagsKeep.v), f.dagsKeep.from())
	add("environment.file", f.environmentFile.v, f.environmentFile.from())
	if s := a.alternative; s.set {
		add("secrets.backend", s.backend, s.origin.String())
		for _, one := range s.arguments {
			list = append(list, one.setting("secrets.backend_kwargs."+one.name))
		}
	} else {
		add("secrets.backend", "", "default")
	}
	for _, k := range f.kms {
		list = append(list, k.settings...)
	}
	add("audit.file", f.auditFile.v, f.auditFile.from())
	add("audit.required", f.auditRequired.v, f.auditRequired.from())
	add("audit.cgroup", f.auditCgroup.v, f.auditCgroup.from())
	if a.multiTeam.set {
		add("multi_team", a.multiTeam.v, a.multiTeam.from())
	}
	if a.impersonation.v != "" {
		add("default_impersonation", a.impersonation.v, a.impersonation.from())
	}

	for i, rule := range f.rules {
		key, origin := fmt.Sprintf("grant[%d].", i), fmt.Sprintf("%s:%d", rule.File, rule.Line)
		for _, one := range patterns(&rule) {
			if *one.to != "" {
				add(key+one.key, *one.to, origin)
			}
		}
		switch {
		case rule.UID != nil:
			add(key+"run_as_user", int64(*rule.UID), origin)
		case !rule.Derived():
			add(key+"run_as_user", rule.RunAsUser, origin)
		}
		add(key+"connections", rule.Connections, origin)
		if rule.Sealed {
			add(key+"sealed", true, origin)
		}
	}
	for i, mount := range f.mounts {
		origin := "command line"
		if l.Mountpoint == "" {
			origin = fmt.Sprintf("%s:%d", f.path, f.at[i])
		}
		add(fmt.Sprintf("mount[%d].path", i), mount.Path, origin)
	}
	return list
}

func orEmpty(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
