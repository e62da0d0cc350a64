package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

func addFiles(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no files to start from: %v", err)
	}
	for _, path := range append(paths, "../../config.toml.example") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
}

// Whatever the file says: no panic, and every error is of a line that is there.
func FuzzConfig(f *testing.F) {
	addFiles(f)
	f.Fuzz(func(t *testing.T, text string) {
		var l loader
		got := defaults()
		root := decode("config.toml", text, &l.report)
		if root != nil {
			root.unknown()
			l.readTop(root, &got)
			readAudit(root, &got)
			readLater(root)
			readMounts(root, &got)
			got.rules = readGrants(root)
		}
		lines := strings.Count(text, "\n") + 1
		for _, e := range l.errs {
			if e.File == "" || e.Message == "" || e.Line < 1 || e.Line > lines {
				t.Errorf("%q of a file with %d lines", e.Error(), lines)
			}
		}
		for _, rule := range got.rules {
			who := rule.Derived() && rule.DAG != "" ||
				!rule.Derived() && rule.DAGFile+rule.Bundle+rule.Team == ""
			if !who || len(rule.Connections) == 0 || rule.Line < 1 || rule.Line > lines {
				t.Errorf("rule %+v", rule)
			}
		}
	})
}

// Every key that the decoder finds has a position of its own.
func FuzzLocate(f *testing.F) {
	addFiles(f)
	f.Add("a.b = 1\n[a.c]\n'd e' = [1, [2, {x.y = '''\n''' }]]\n[[a.f]]\n[a.f.g]\n" +
		"\"\\u0041\" = \"\"\"\"\"\"\"\" # \"\nh = 1979-05-27 07:32:00\n")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || strings.HasPrefix(text, "\ufeff") {
			return // decode refuses the one and removes the other
		}
		var values map[string]any
		if _, err := toml.Decode(text, &values); err != nil {
			locate(text) // must end
			return
		}
		if hasEmptyKey(values) {
			// Under one the decoder loses levels of nested arrays. It is refused as
			// unknown, with the line of what it stands in.
			return
		}
		checkPositions(t, "", values, locate(text), strings.Count(text, "\n")+1)
	})
}

// hasEmptyKey reports whether some key in v is the empty text.
func hasEmptyKey(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if key == "" || hasEmptyKey(value) {
				return true
			}
		}
	case []map[string]any:
		return slices.ContainsFunc(v, func(m map[string]any) bool { return hasEmptyKey(m) })
	case []any:
		return slices.ContainsFunc(v, hasEmptyKey)
	}
	return false
}

func checkPositions(t *testing.T, path string, v any, p *position, lines int) {
	if p.line < 1 || p.line > lines {
		t.Errorf("%s is on line %d of %d", path, p.line, lines)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) != len(p.keys) {
			t.Errorf("%s has %d keys and %d positions", path, len(v), len(p.keys))
		}
		for key, value := range v {
			child, ok := p.keys[key]
			if !ok {
				t.Errorf("%s.%q has no position", path, key)
				continue
			}
			checkPositions(t, path+"."+key, value, child, lines)
		}
	case []map[string]any:
		if len(v) != len(p.elems) {
			t.Errorf("%s has %d elements and %d positions", path, len(v), len(p.elems))
		}
		for i := range min(len(v), len(p.elems)) {
			checkPositions(t, path+"[]", v[i], p.elems[i], lines)
		}
	case []any:
		if len(v) != len(p.elems) {
			t.Errorf("%s has %d elements and %d positions", path, len(v), len(p.elems))
		}
		for i := range min(len(v), len(p.elems)) {
			checkPositions(t, path+"[]", v[i], p.elems[i], lines)
		}
	}
}
