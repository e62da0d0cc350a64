package config_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/resolve/metastore"
)

// hidden is a secret that no message may show.
const hidden = "hunter2"

// loadError returns the text of the error that loading must give.
func loadError(t *testing.T, src config.Source) string {
	t.Helper()
	_, err := config.Load(context.Background(), src)
	if err == nil {
		t.Fatal("the configuration loads")
	}
	if strings.Contains(err.Error(), hidden) {
		t.Error("the message shows a secret")
	}
	return err.Error()
}

func TestSecretInReadableFileIsRefused(t *testing.T) {
	const readable = "a secret in a file that everybody can read (run: chmod o-rwx PATH)"
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
		want string // of the message after the path; empty: it loads
	}{
		"password": {"[metastore]\nurl = \"postgresql://u:hunter2@h/db\"\n", 0o644,
			":2: metastore.url: " + readable},
		"password as parameter": {"[metastore]\nurl = \"postgresql://h/db?password=hunter2\"\n",
			0o644,
			":2: metastore.url: " + readable},
		"fernet key": {"[metastore]\n\nfernet_key = \"hunter2\"\n", 0o604,
			":3: metastore.fernet_key: " + readable},
		"no password":   {"[metastore]\nurl = \"postgresql://u@h/db\"\n", 0o644, ""},
		"for the group": {"[metastore]\nfernet_key = \"hunter2\"\n", 0o640, ""},
		"names a file": {
			"[metastore]\nurl = \"postgresql://u@h/db\"\nfernet_key_file = \"/dev/null\"\n", 0o644,
			":3: metastore.fernet_key_file: /dev/null: not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, tc.text)
			write(t, src.ConfigFile, tc.text, tc.mode)
			if tc.want == "" {
				load(t, src)
				return
			}
			want := src.ConfigFile + strings.ReplaceAll(tc.want, "PATH", src.ConfigFile)
			if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecretFilesAreFoundInOrder(t *testing.T) {
	text := "[metastore]\nurl_file = \"url\"\nfernet_key_file = \"key\"\n"
	src := source(t, text)
	beside, credentials := filepath.Dir(src.ConfigFile), t.TempDir()
	src.Environ = append(src.Environ, "CREDENTIALS_DIRECTORY="+credentials)
	write(t, filepath.Join(beside, "url"), "sqlite:////beside.db\n", 0o600)
	const key = "YmVzaWRlYmVzaWRlYmVzaWRlYmVzaWRlYmVzaWRlYmU="
	write(t, filepath.Join(beside, "key"), key+"\n\n", 0o600)
	write(t, filepath.Join(credentials, "url"), "sqlite:////credentials.db\n", 0o600)

	got := load(t, src)
	want := &metastore.Settings{URL: "sqlite:////credentials.db", FernetKey: key + "\n"}
	if diff := cmp.Diff(want, got.Resolver.Metastore); diff != "" {
		t.Errorf("metastore (-want +got):\n%s", diff)
	}
	if len(got.Warnings) != 1 { // no grant
		t.Errorf("warnings: %q", got.Warnings)
	}
}

func TestSecretFileThatCannotServe(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"empty": {"\n", "url is empty"},
		"NUL":   {"sqlite:////hunter2\x00", "url holds a NUL"},
		"no URL": {hunter(), "this is not the URL of a PostgreSQL, MySQL, MariaDB or SQLite " +
			"database"},
		"too long": {strings.Repeat("x", 5<<20), "larger than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "[metastore]\nurl_file = \"url\"\n")
			write(t, filepath.Join(filepath.Dir(src.ConfigFile), "url"), tc.content, 0o600)
			got := loadError(t, src)
			if !strings.Contains(got, ":2: metastore.url_file: ") ||
				!strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q of the key's line", got, tc.want)
			}
		})
	}
}

func hunter() string { return hidden + "\n" }

func TestReadableSecretFileIsAWarning(t *testing.T) {
	src := source(t, "[metastore]\nfernet_key_file = \"key\"\n")
	path := filepath.Join(filepath.Dir(src.ConfigFile), "key")
	write(t, path, "k", 0o644)
	want := path + " holds a secret, and everybody can read it; run: chmod o-rwx " + path
	if got := load(t, src).Warnings; got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnsafeIncludeIsRefused(t *testing.T) {
	grant := "[[grant]]\nrun_as_user = \"a\"\nconnections = [\"x\"]\n"
	for name, tc := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"group-writable": {func(t *testing.T, path string) { write(t, path, grant, 0o664) },
			"can write to it, and it grants access"},
		"writable": {func(t *testing.T, path string) { write(t, path, grant, 0o646) },
			"can write to it, and it grants access"},
		"directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"symlink": {func(t *testing.T, path string) {
			write(t, path+".target", grant, 0o644)
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
		}, "a symbolic link"},
		"not TOML": {func(t *testing.T, path string) { write(t, path, "[[grant", 0o644) },
			"this is not TOML"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "include = [\"d/*.toml\"]\n")
			src.EUID = 0 // an ordinary user's group may write
			dir := filepath.Join(filepath.Dir(src.ConfigFile), "d")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, ".hidden.toml"), "not read", 0o666)
			path := filepath.Join(dir, "a.toml")
			tc.make(t, path)
			got := loadError(t, src)
			if !strings.HasPrefix(got, path) || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q of %s", got, tc.want, path)
			}
		})
	}
}

func TestIncludeOfAnotherUserIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		euid  int
		owner uint32
		want  string
	}{
		"root's":            {1000, 0, ""},
		"the user's own":    {1000, 1000, ""},
		"another user's":    {1000, 1001, "root or uid 1000"},
		"root's, for root":  {0, 0, ""},
		"a user's, as root": {0, 1001, "root"},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, "include = [\"a.toml\"]\n")
			src.EUID = tc.euid
			path := filepath.Join(filepath.Dir(src.ConfigFile), "a.toml")
			write(t, path, "[[grant]]\nrun_as_user = \"a\"\nconnections = [\"x\"]\n", 0o644)
			src.SetOwner(belongTo(tc.owner, path))
			if tc.want == "" {
				load(t, src)
				return
			}
			want := path + ": somebody else could change it: it belongs to uid 1001, and it " +
				"grants access (it, and every directory above it, must belong to " + tc.want + ")"
			if diff := cmp.Diff(want, loadError(t, src)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIncludesAddGrantsInOrder(t *testing.T) {
	src := source(t, "include = [\"d/b*.toml\", \"d/*.toml\"]\n"+
		"[[grant]]\nrun_as_user = \"first\"\nconnections = [\"x\"]\n")
	dir := filepath.Join(filepath.Dir(src.ConfigFile), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		text := "\n[[grant]]\nrun_as_user = \"" + name + "\"\nconnections = [\"x\"]\n"
		write(t, filepath.Join(dir, name+".toml"), text, 0o644)
	}
	var got []string
	for _, rule := range load(t, src).Front.Rules {
		got = append(got, rule.RunAsUser+" "+filepath.Base(rule.File))
	}
	want := []string{"first config.toml", "b b.toml", "a a.toml", "c c.toml"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}
