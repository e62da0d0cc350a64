package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/settings"
)

// file is what config.toml and the files that it names say, over the defaults.
type file struct {
	path  string      // empty if there is no configuration file
	info  fs.FileInfo // of config.toml
	found bool

	include      value[[]string]
	airflowHome  value[string]
	homeSettings value[[]string] // set: nothing else of airflow_home counts
	order        value[string]
	onError      value[string]
	ttl          value[time.Duration]
	negativeTTL  value[time.Duration]
	epoch        value[time.Duration]
	timeout      value[time.Duration]
	shareNames   value[bool]
	user         value[string] // a name, or "#1234"
	uid          *uint32       // of user; nil: it is a name
	writable     value[[]string]
	memoryLock   value[string]

	kmsConnections value[[]string]

	url       value[string]
	fernetKey value[string]
	dags      value[bool]
	dagsEvery value[time.Duration]
	dagsKeep  value[time.Duration]

	environmentFile value[string]

	secrets alternative
	kms     []keyService

	auditFile     value[string]
	auditRequired value[bool]
	auditCgroup   value[bool]

	mounts []settings.Mount
	at     []int // line of each mount
	rules  []policy.Rule
}

// Limits of the times.
const (
	maxTTL       = time.Minute
	minTimeout   = 100 * time.Millisecond
	maxTimeout   = 5 * time.Minute
	minEpoch     = 100 * time.Millisecond
	maxEpoch     = 24 * time.Hour
	minDAGsEvery = time.Second
	maxDAGsEvery = time.Hour
	maxDAGsKeep  = 24 * time.Hour

	// zeroEpoch is the default epoch where ttl is 0: an epoch of 0 would fork for each read.
	zeroEpoch = time.Second
)

// defaults returns the configuration of an empty file.
func defaults() file {
	return file{
		order:       value[string]{v: "aip-33"},
		onError:     value[string]{v: "stop"},
		ttl:         value[time.Duration]{v: 5 * time.Second},
		negativeTTL: value[time.Duration]{v: time.Second},
		timeout:     value[time.Duration]{v: 5 * time.Second},
		memoryLock:  value[string]{v: "require"},
		dags:        value[bool]{v: true},
		dagsEvery:   value[time.Duration]{v: 30 * time.Second},
		dagsKeep:    value[time.Duration]{v: time.Hour},
		auditFile:   value[string]{v: "-"},
	}
}

// defaultEpoch is the epoch where the file sets no epoch: the TTL, within reason.
func defaultEpoch(ttl time.Duration) time.Duration {
	if ttl == 0 {
		return zeroEpoch
	}
	return max(ttl, minEpoch)
}

// openConfig reads the top level of config.toml, and returns its tables; nil where there is no
// such file, or it is of no use.
func (l *loader) openConfig() (*table, file) {
	f := defaults()
	if l.ConfigFile == "" {
		return nil, f
	}
	text, info, err := readFile(l.ConfigFile, 0, l.process())
	if errors.Is(err, fs.ErrNotExist) && !l.ConfigExplicit {
		return nil, f
	}
	f.path = l.ConfigFile
	if err != nil {
		e := refusal(f.path, "it says what connfs does", err)
		if errors.Is(err, fs.ErrPermission) && !l.ConfigExplicit {
			e.Hint = "your own is ~/.config/connfs/config.toml, or what --config names"
		}
		l.add(e)
		return nil, f
	}
	f.info, f.found = info, true
	root := decode(f.path, text, &l.report)
	if root != nil {
		root.unknown()
		l.readTop(root, &f)
	}
	return root, f
}

// readTables reads the tables of config.toml, its includes and the files with secrets.
func (l *loader) readTables(root *table, f *file) {
	l.readMetastore(root, f)
	root.sub("environment").text("file", &f.environmentFile)
	if f.environmentFile.v != "" {
		f.environmentFile.v = l.beside(f.environmentFile.v)
	}
	l.readSecrets(root, f)
	l.readKMS(root, f)
	readAudit(root, f)
	readLater(root)
	readMounts(root, f)
	f.rules = readGrants(root)
	for _, path := range l.included(root, f) {
		f.rules = append(f.rules, l.readInclude(path)...)
	}
	l.refuseDerived(f)
	l.checkSealed(f)
}

func (l *loader) readTop(t *table, f *file) {
	t.texts("include", &f.include)
	t.text("airflow_home", &f.airflowHome, absoluteOrEmpty)
	t.texts("airflow_home_settings", &f.homeSettings)
	for i, name := range f.homeSettings.v {
		if !slices.Contains(harmless, name) {
			l.add(&Error{
				File: f.path, Line: t.pos.at("airflow_home_settings").elem(i).line,
				Key:     "airflow_home_settings",
				Message: fmt.Sprintf("%q cannot be taken by itself", name),
				Hint:    "it may be " + quotedOr(harmless) + "; set what else is needed here",
			})
		}
	}
	t.text("order", &f.order, oneOf("aip-33", "airflow"))
	t.text("on_error", &f.onError, oneOf("stop", "next"))
	t.duration("ttl", &f.ttl, 0, maxTTL)
	t.duration("negative_ttl", &f.negativeTTL, 0, maxTTL)
	if t.values["epoch"] != "" {
		t.duration("epoch", &f.epoch, minEpoch, maxEpoch)
	}
	t.duration("timeout", &f.timeout, minTimeout, maxTimeout)
	t.boolean("share_names", &f.shareNames)
	readUser(t, f)
	t.texts("writable", &f.writable)
	for i, path := range f.writable.v {
		if !filepath.IsAbs(path) {
			t.report.add(&Error{File: t.file, Line: t.pos.at("writable").elem(i).line,
				Key: "writable", Message: "it must hold absolute paths"})
		}
	}
	t.text("memory_lock", &f.memoryLock, oneOf("require", "try"))
	t.texts("kms_connections", &f.kmsConnections)
	t.refuse("socket", "", "/run/connfs/connfs.sock")
}

// readUser reads user, which is written as the run_as_user of a [[grant]].
func readUser(t *table, f *file) {
	raw, ok := t.values["user"]
	if !ok || raw == "" {
		return
	}
	var who policy.Rule
	if message, hint := setUser(&who, raw); message != "" {
		t.fail("user", message, hint)
		return
	}
	line := t.pos.at("user").line
	f.user = value[string]{v: who.RunAsUser, set: true, line: line,
		origin: fmt.Sprintf("%s:%d", t.file, line)}
	if f.uid = who.UID; f.uid != nil {
		f.user.v = fmt.Sprintf("#%d", *f.uid)
	}
}

func readAudit(root *table, f *file) {
	t := root.sub("audit")
	t.text("file", &f.auditFile, func(v string) (string, string) {
		if v == "-" || v == "syslog" || filepath.IsAbs(v) {
			return "", ""
		}
		return `it may be an absolute path, "-" for standard error, or "syslog"`, ""
	})
	t.boolean("required", &f.auditRequired)
	t.boolean("cgroup", &f.auditCgroup)
	if f.auditRequired.v && (f.auditFile.v == "-" || f.auditFile.v == "syslog") {
		t.fail("required", "a required audit needs a file", `set audit.file to a path`)
	}
}

// readLater refuses the tables that this version does not have.
func readLater(root *table) {
	tenants, ok := root.values["tenant"].(map[string]any)
	if !ok {
		root.refuse("tenant")
	}
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		root.report.add(&Error{File: root.file, Line: root.pos.at("tenant").at(name).line,
			Key: "tenant." + name, Message: notYet})
	}
}

func readMounts(root *table, f *file) {
	seen := map[string]bool{}
	for _, t := range root.array("mount") {
		t.refuse("tenant", "")
		t.refuse("identity", "uid")
		t.refuse("as", "")
		t.refuse("denied", "EACCES")
		t.refuse("uid_map", "")
		path := value[string]{}
		t.require("path", "a [[mount]] needs a path", "")
		t.text("path", &path, func(v string) (string, string) {
			switch clean := filepath.Clean(v); {
			case !filepath.IsAbs(v):
				return "a mountpoint must be an absolute path", ""
			case clean == "/":
				return "the root directory cannot be a mountpoint", ""
			case seen[clean]:
				return "another [[mount]] has the same path", ""
			}
			return "", ""
		})
		if path.set {
			path.v = filepath.Clean(path.v)
			seen[path.v] = true
			f.mounts = append(f.mounts, settings.Mount{Path: path.v})
			f.at = append(f.at, path.line)
		}
	}
}

// included returns the files that the include patterns match, in the order of
// the patterns and sorted within each, every file once.
func (l *loader) included(root *table, f *file) []string {
	var paths []string
	seen := map[string]bool{}
	for i, pattern := range f.include.v {
		fail := func(message string) {
			l.add(&Error{File: f.path, Line: root.pos.at("include").elem(i).line, Key: "include",
				Message: message})
		}
		matches, err := filepath.Glob(l.beside(pattern))
		if err != nil {
			fail("this is not a file pattern")
			continue
		}
		if len(matches) == 0 && !strings.ContainsAny(pattern, `*?[\`) {
			fail("there is no such file")
		}
		slices.Sort(matches)
		for _, path := range matches {
			if !strings.HasPrefix(filepath.Base(path), ".") && !seen[path] {
				seen[path] = true
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// harmless are the settings that can be taken from an airflow_home by themselves: none of them is
// a backend, a path, a URL, a command or a key.
var harmless = []string{"default_impersonation", "multi_team"}

// readInclude reads a file that holds [[grant]] only. Whoever can write it decides who may
// read connections, so it must be as safe from others as config.toml.
func (l *loader) readInclude(path string) []policy.Rule {
	text, _, err := readFile(path, syscall.O_NOFOLLOW, l.process())
	if err != nil {
		l.add(refusal(path, "it grants access", err))
		return nil
	}
	root := decode(path, text, &l.report)
	if root == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(root.values)) {
		if name != "grant" {
			root.fail(name, "an included file may hold [[grant]] only", "")
		}
	}
	return readGrants(root)
}

func absoluteOrEmpty(v string) (string, string) {
	if v == "" || filepath.IsAbs(v) {
		return "", ""
	}
	return "it must be an absolute path", ""
}
