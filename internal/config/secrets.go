package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/connfs/connfs/internal/trust"
	"github.com/connfs/connfs/resolve/metastore"
)

// readMetastore reads [metastore] and the files with secrets that it names.
func (l *loader) readMetastore(root *table, f *file) {
	t := root.sub("metastore")
	t.boolean("dags", &f.dags)
	t.duration("dags_every", &f.dagsEvery, minDAGsEvery, maxDAGsEvery)
	t.duration("dags_keep", &f.dagsKeep, 0, maxDAGsKeep)

	t.text("url", &f.url, func(url string) (message, hint string) {
		if strings.TrimSpace(url) == "" {
			return emptyURL, "leave the key out to take the URL from airflow_home"
		}
		return checkURL(url)
	})
	secret := ""
	if holdsPassword(f.url.v) {
		secret = "url"
	}
	l.readSecretFile(t, "url", &f.url)
	if f.url.set && secret == "" {
		if message, hint := checkURL(f.url.v); message != "" {
			t.fail("url_file", message, hint)
		}
	}

	t.text("fernet_key", &f.fernetKey)
	if f.fernetKey.v != "" {
		secret = "fernet_key"
	}
	l.readSecretFile(t, "fernet_key", &f.fernetKey)

	if secret != "" && f.info.Mode()&othersRead != 0 {
		t.fail(secret, "a secret in a file that everybody can read", "run: chmod o-rwx "+f.path)
	}
}

// readSecretFile reads what the key name+"_file" of the table names. One line end at the
// end does not count.
func (l *loader) readSecretFile(t *table, name string, to *value[string]) {
	key, named := name+"_file", value[string]{}
	t.text(key, &named, func(path string) (message, hint string) {
		if path == "" {
			return "it names no file", "leave the key out where there is none"
		}
		return "", ""
	})
	if named.v == "" {
		return
	}
	if to.v != "" {
		t.fail(key, fmt.Sprintf("%s is set too", t.key(name)), "only one of the two")
		return
	}
	if text, path, ok := l.readNamed(t, key, named.v); ok {
		*to = value[string]{v: text, set: true, line: named.line, origin: path}
	}
}

// readNamed returns the text of the file with a secret that a key names, and its path.
func (l *loader) readNamed(t *table, key, name string) (text, path string, ok bool) {
	path = l.find(name)
	text, info, err := readFile(path, 0, l.owners)
	var untrusted *trust.Error
	switch text = strings.TrimSuffix(text, "\n"); {
	case errors.As(err, &untrusted):
		t.fail(key, untrusted.Error(), untrusted.Hint)
	case err != nil:
		t.fail(key, fmt.Sprintf("%s: %v", path, err), "")
	case text == "":
		t.fail(key, path+" is empty", "")
	case strings.ContainsRune(text, 0):
		t.fail(key, path+" holds a NUL", "")
	default:
		if info.Mode()&othersRead != 0 {
			l.warn("%s holds a secret, and everybody can read it; run: chmod o-rwx %s", path, path)
		}
		return text, path, true
	}
	return "", path, false
}

// find returns where a file with a secret is: a relative name is looked up in the service
// manager's $CREDENTIALS_DIRECTORY, and then beside the configuration file.
func (l *loader) find(name string) string {
	if dir, ok := l.variable("CREDENTIALS_DIRECTORY"); ok && filepath.IsAbs(dir) &&
		!filepath.IsAbs(name) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	return l.beside(name)
}

// dialects are the databases that can hold a metastore, by the scheme of their
// URL without the driver.
var dialects = map[string]string{
	"postgresql": "PostgreSQL", "postgres": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB",
	"sqlite": "SQLite",
}

// dialect returns the database that a URL names; empty if connfs cannot read it.
func dialect(url string) string {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(scheme, "+")
	return dialects[name]
}

// emptyURL is what is wrong with a database URL that is set and empty, as where a variable in
// a template is not set. Without a word the metastore would be searched no more.
const emptyURL = "the database URL is set, and empty"

// checkURL says what is wrong with a database URL, its parameters included, and never shows it.
func checkURL(url string) (message, hint string) {
	switch {
	case url == "":
		return "", ""
	case dialect(url) != "":
		// The line break is that of a file which holds the URL.
		if err := metastore.CheckURL(strings.TrimSuffix(url, "\n")); err != nil {
			return err.Error(), ""
		}
		return "", ""
	case strings.HasPrefix(url, "airflow-db-not-allowed:"):
		return "this is what Airflow 3 gives to tasks in place of the database URL",
			"start connfs outside a task"
	}
	return "this is not the URL of a PostgreSQL, MySQL, MariaDB or SQLite database",
		"postgresql://user:password@host/database"
}

// holdsPassword reports whether a database URL holds a password, in its
// authority or among its parameters. It errs on the side of a secret.
func holdsPassword(url string) bool {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url != ""
	}
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 && strings.Contains(rest[:at], ":") {
		return true
	}
	query = strings.ToLower(query)
	return strings.Contains(query, "pass") || strings.Contains(query, "secret") ||
		strings.Contains(query, "token") || strings.Contains(query, "%")
}
