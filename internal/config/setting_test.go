package config_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
)

// setting returns one of the effective settings.
func setting(t *testing.T, r *config.Result, key string) config.Setting {
	t.Helper()
	for _, s := range r.Settings {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("there is no setting %s", key)
	return config.Setting{}
}

const settingsText = `ttl = "0s"
[metastore]
url = "postgresql://u:hunter2@h/db"
fernet_key = "hunter2"
dags_every = "30s"
[[grant]]
dag = "d"
run_as_user = 7
connections = ["<a>", "b*"]
[[grant]]
team = "blue"
dag = "d*"
connections = ["c"]
bundle = "main"
dag_file = "/dags/*"
[[mount]]
path = "/conn"
`

func TestWriteSettings(t *testing.T) {
	src := source(t, settingsText)
	got := load(t, src)
	var b strings.Builder
	if err := config.WriteSettings(&b, got.Settings, false, false); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`include = []  # default
airflow_home = ""  # default
order = "aip-33"  # default
on_error = "stop"  # default
ttl = "0s"  # CONFIG:1
negative_ttl = "1s"  # default
epoch = "1s"  # default
timeout = "5s"  # default
share_names = false  # default
user = ""  # default
writable = []  # default
memory_lock = "require"  # default
kms_connections = []  # default
metastore.url = "[redacted]"  # CONFIG:3
metastore.fernet_key = "[redacted]"  # CONFIG:4
metastore.dags = true  # default
metastore.dags_every = "30s"  # CONFIG:5
metastore.dags_keep = "1h"  # default
environment.file = ""  # default
secrets.backend = ""  # default
audit.file = "-"  # default
audit.required = false  # default
audit.cgroup = false  # default
grant[0].dag = "d"  # CONFIG:6
grant[0].run_as_user = 7  # CONFIG:6
grant[0].connections = ["<a>","b*"]  # CONFIG:6
grant[1].dag = "d*"  # CONFIG:10
grant[1].dag_file = "/dags/*"  # CONFIG:10
grant[1].bundle = "main"  # CONFIG:10
grant[1].team = "blue"  # CONFIG:10
grant[1].connections = ["c"]  # CONFIG:10
mount[0].path = "/conn"  # CONFIG:17
`, "CONFIG", src.ConfigFile)
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", got.Settings, got.Settings, got.Settings),
		hidden) {
		t.Error("printing the settings shows a secret")
	}
}

func TestWriteSettingsAsJSON(t *testing.T) {
	src := source(t, settingsText)
	got := load(t, src)
	for show, want := range map[bool]string{false: "[redacted]", true: hidden} {
		var b strings.Builder
		if err := config.WriteSettings(&b, got.Settings, show, true); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != len(got.Settings) {
			t.Fatalf("%d lines for %d settings", len(lines), len(got.Settings))
		}
		values := map[string]any{}
		for i, line := range lines {
			var object struct {
				Key    string
				Value  any
				Origin string
			}
			if err := json.Unmarshal([]byte(line), &object); err != nil {
				t.Fatal(err)
			}
			if object.Key != got.Settings[i].Key || object.Origin != got.Settings[i].Origin {
				t.Errorf("line %d is of %s from %s", i, object.Key, object.Origin)
			}
			values[object.Key] = object.Value
		}
		if values["metastore.fernet_key"] != want {
			t.Errorf("show secrets %v: the Fernet key shows as %v", show,
				values["metastore.fernet_key"])
		}
		if diff := cmp.Diff([]any{"<a>", "b*"}, values["grant[0].connections"]); diff != "" {
			t.Errorf("connections (-want +got):\n%s", diff)
		}
	}
}
