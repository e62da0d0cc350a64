package config

import (
	"fmt"
	"slices"

	"github.com/connfs/connfs/internal/spelling"
)

// keys are the keys of the contract by table, in its order; "" is the top level.
// This version refuses some of them by name.
var keys = []struct {
	table string
	names []string
}{
	{"", []string{
		"include", "airflow_home", "airflow_home_settings", "order", "on_error", "ttl",
		"negative_ttl", "epoch", "timeout", "share_names", "user", "writable", "memory_lock",
		"kms_connections", "socket", "metastore", "environment", "secrets", "kms", "audit",
		"grant", "tenant", "mount",
	}},
	{"metastore", []string{
		"url", "url_file", "fernet_key", "fernet_key_file", "dags", "dags_every", "dags_keep",
	}},
	{"environment", []string{"file"}},
	{"secrets", []string{"backend", "backend_kwargs"}},
	{"kms", kmsKeys()},
	{"audit", []string{"file", "required", "cgroup"}},
	{"grant", []string{
		"dag", "dag_file", "bundle", "team", "run_as_user", "connections", "tenant", "sealed",
	}},
	{"mount", []string{"path", "tenant", "identity", "as", "denied", "uid_map"}},
}

// known returns the keys of a table.
func known(table string) []string {
	for _, k := range keys {
		if k.table == table {
			return k.names
		}
	}
	return nil
}

// suggest says what an unknown key of a table was probably meant to be: a key
// that belongs elsewhere, or else the nearest one of the table.
func suggest(table, key string) string {
	for _, k := range keys {
		if k.table == table || !slices.Contains(k.names, key) {
			continue
		}
		switch k.table {
		case "":
			return fmt.Sprintf("%q belongs at the top, above the first [table]", key)
		case "grant", "mount":
			return fmt.Sprintf("%q belongs in a [[%s]]", key, k.table)
		case "kms":
			return fmt.Sprintf("%q belongs in a [kms.NAME]", key)
		default:
			return fmt.Sprintf("%q belongs in [%s]", key, k.table)
		}
	}
	if table == "secrets" {
		return `arguments of the backend belong in backend_kwargs; the other key is "backend"`
	}
	nearest, alike := spelling.Nearest(key, known(table))
	if alike {
		return fmt.Sprintf("did you mean %q?", nearest)
	}
	return fmt.Sprintf("the nearest known key is %q", nearest)
}
