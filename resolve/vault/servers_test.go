//go:build integration

package vault_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/resolvetest"
	"github.com/connfs/connfs/resolve/vault"
)

// testCase is a case that Airflow's own VaultBackend answered.
type testCase struct {
	Kind      string          `json:"kind"`
	Kwargs    json.RawMessage `json:"backend_kwargs"`
	ID        string          `json:"conn_id"`
	Team      string          `json:"team"`
	MultiTeam bool            `json:"multi_team"`
	Expect    any             `json:"expect"`
	Absent    bool            `json:"absent"`
	Error     struct {
		Type, At string
	} `json:"error"`
	Differs map[string]struct {
		Expect any `json:"expect"`
	} `json:"differs"`
}

func (c testCase) name() string {
	return fmt.Sprintf("%q %s %v %s", c.ID, c.Kwargs, c.MultiTeam, c.Team)
}

// differences are the cases that connfs answers in another way than Airflow 3.3.2's
// server process, each with its reason. The answer of 2.10.5 is "2.10.5".
var differences = map[string]struct {
	instead string
	reason  string
}{
	"extra_text": {"2.10.5", "only a server process of 3.x refuses an extra that is not " +
		"a JSON object; a task of any version takes it"},
	"j_extra_text":         {"2.10.5", "the same"},
	"j_extra_list":         {"2.10.5", "the same"},
	"a//b/c":               {"absent", "an id is never a path"},
	"../other/secret":      {"absent", "an id is never a path"},
	"a/../../other/secret": {"absent", "an id is never a path"},
	"./pg_full":            {"absent", "an id is never a path"},
}

// misled are the cases in which Airflow takes a mount that is not the one of the arguments for the
// absence of the connection, by their arguments and id; connfs cannot reach it.
var misled = map[string]bool{
	`{"mount_point": "nomount"} c1`:    true,
	`{"mount_point": "kv1"} one`:       true,
	`{"mount_point": "kv1"} map`:       true,
	`{"mount_point": "kv1"} missing`:   true,
	`{"kv_engine_version": 1} pg_full`: true,
	`{"mount_point": null} kv1/one`:    true,
}

func TestAnswersAsAirflow(t *testing.T) {
	text, err := os.ReadFile("testdata/vault.json")
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Populate []struct {
			Method, Path string
			Body         any
		}
		Cases []testCase
	}
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	v := servers.StartVault(t)
	for _, p := range data.Populate {
		v.Do(p.Method, p.Path, p.Body)
	}
	t.Setenv("VAULT_ADDR", v.URL)
	t.Setenv("VAULT_TOKEN", v.Token)
	differed := make(map[string]bool)
	for _, c := range data.Cases {
		if c.Kind != "connection" {
			continue
		}
		t.Run(c.name(), func(t *testing.T) {
			want, ok := differences[c.ID]
			if ok && string(c.Kwargs) == "{}" {
				differed[c.ID] = true
				c.Absent, c.Error.Type = want.instead == "absent", ""
				c.Expect = c.Differs[want.instead].Expect
			}
			checkCase(t, c)
		})
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(differences)),
		slices.Sorted(maps.Keys(differed))); diff != "" {
		t.Errorf("differences that no case shows (-want +got):\n%s", diff)
	}
}

func checkCase(t *testing.T, c testCase) {
	b, err := backend.Open(&backend.Secrets{Kwargs: string(c.Kwargs), MultiTeam: c.MultiTeam,
		Team: c.Team}, vault.Open)
	if err != nil {
		// An argument that is missing is found before anything is read.
		if c.Error.Type == "" || c.Error.At == "read" && !strings.Contains(string(c.Kwargs), `"userpass"`) {
			t.Errorf("%v", err)
		}
		return
	}
	defer b.(*vault.Store).Close()
	if c.Error.At == "construction" {
		t.Error("no error at the start")
	}
	p, err := resolve.NewPath([]resolve.Entry{{Name: "vault", Backend: b}}, "stop")
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := p.Connection(t.Context(), c.ID)
	switch {
	case misled[string(c.Kwargs)+" "+c.ID]:
		resolvetest.WantKind(t, "a wrong mount", err, conn.Unreachable)
	case c.Absent:
		resolvetest.WantKind(t, "absent", err, conn.Absent)
	case c.Error.Type == "VaultError", c.Error.Type == "InvalidRequest":
		resolvetest.WantKind(t, c.Error.Type, err, conn.Denied)
	case c.Error.Type != "":
		resolvetest.WantKind(t, c.Error.Type, err, conn.Invalid)
	case err != nil:
		t.Error(err)
	default:
		if diff := cmp.Diff(c.Expect, any(resolvetest.FieldsOf(got))); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// secretOf returns the key-value pairs that hold a connection.
func secretOf(c *conn.Connection) map[string]any {
	m := make(map[string]any)
	for name, v := range map[string]*string{"conn_type": c.Type, "description": c.Description,
		"host": c.Host, "login": c.Login, "schema": c.Schema} {
		if v != nil {
			m[name] = *v
		}
	}
	for name, v := range map[string]conn.Secret{"password": c.Password, "extra": c.Extra} {
		if text, ok := v.Reveal(); ok {
			m[name] = text
		}
	}
	if c.Port != nil {
		m["port"] = *c.Port
	}
	return m
}

// put writes a secret of either version.
func put(v *servers.Vault, version int, mount, path string, secret map[string]any) {
	if version == 1 {
		v.Do("POST", "/v1/"+mount+"/"+path, secret)
	} else {
		v.Do("POST", "/v1/"+mount+"/data/"+path, map[string]any{"data": secret})
	}
}

func TestConforms(t *testing.T) {
	v := servers.StartVault(t)
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("kv %d", version), func(t *testing.T) {
			mounts := 0
			resolvetest.Run(t, resolvetest.Harness{
				New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
					mounts++
					mount := fmt.Sprintf("kv%d/store-%d", version, mounts)
					v.Mount(mount, version)
					for id, c := range connections {
						put(v, version, mount, "folder/of/"+id, secretOf(c))
					}
					return resolvetest.Open(t, vault.Open,
						map[string]any{"url": v.URL, "token": v.Token, "mount_point": mount,
							"connections_path": "folder/of", "kv_engine_version": version})
				},
				Unreachable: func(t *testing.T) backend.Backend {
					return resolvetest.Open(t, vault.Open,
						map[string]any{"url": "http://127.0.0.1:1", "token": "x",
							"kv_engine_version": version})
				},
			})
		})
	}
}

// No id that somebody makes up may look like an outage of the server.
func TestHasNoneOfManyIDs(t *testing.T) {
	v := servers.StartVault(t)
	v.Mount("kv/1", 1)
	v.Mount("kv/2", 2)
	alphabet := []rune("ab./\\%?#;:&+=*~^|<>{}[]()'\"` ü😀\t\x00\x01\n" +
		"\r\x7f\u00a0\u00ad\u0301\u200b\u2028\ufeff\ufffd\U000e0001")
	random := rand.New(rand.NewPCG(3, 4))
	for version := 1; version <= 2; version++ {
		b := resolvetest.Open(t, vault.Open, map[string]any{"url": v.URL, "token": v.Token,
			"mount_point": fmt.Sprint("kv/", version), "kv_engine_version": version})
		for range 1500 {
			id := make([]rune, 1+random.IntN(8))
			for i := range id {
				id[i] = alphabet[random.IntN(len(alphabet))]
			}
			if _, err := b.Connection(t.Context(), string(id)); err == nil ||
				conn.KindOf(err) != conn.Absent {
				t.Errorf("version %d: %q: %v", version, string(id), err)
			}
		}
	}
}
