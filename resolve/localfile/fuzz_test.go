package localfile

import (
	"testing"

	"github.com/connfs/connfs/conn"
)

// fuzz holds that any file is read, or refused with an error that is Invalid, and
// that each connection of it can be asked for its URI and its file.
func fuzz(f *testing.F, parse func(string, *content) error, seeds ...string) {
	for _, text := range seeds {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseText(text, parse)
		if err != nil {
			if conn.KindOf(err) != conn.Invalid {
				t.Fatalf("%v, want invalid", err)
			}
			return
		}
		if len(all.ids) != len(all.entries) {
			t.Fatalf("%d ids of %d connections", len(all.ids), len(all.entries))
		}
		for _, id := range all.ids {
			entry := all.entries[id]
			if (entry.Connection == nil) == (entry.Err == nil) {
				t.Fatalf("%q is neither a connection nor an error", id)
			}
			if entry.Err != nil || entry.Connection.Validate() != nil {
				continue
			}
			if _, err := entry.Connection.JSON(); err != nil {
				t.Fatalf("%q has a URI and no file: %v", id, err)
			}
		}
	})
}

func FuzzEnv(f *testing.F) {
	fuzz(f, parseEnv, "x=mysql://u:p@h:1/s?a=b\n# c\r\ny=a://b\u2028z={\"connfs_sealed\": 1}\n")
}

func FuzzJSON(f *testing.F) {
	fuzz(f, parseJSON, `{"x": "a://b", "y": {"host": "h", "port": " 5_0 ", "extra": {"a": [1.0, NaN]}}, "z": ["a://b"], "w": {"uri": "a://b"}}`)
}

func FuzzYAML(f *testing.F) {
	fuzz(f, parseYAML,
		"x: a://b\ny: &y {host: h, port: 017, extra: {1: 1:30, yes: .inf, k: 2020-01-01}}\n"+
			"z: {<<: *y, extra: {a: ! 5, b: !!str 6}}\n? w\n: [a://b]\n",
		"a: &a [*a]\n", "%YAML 1.1\n---\nx: |\n  a://b\n", "x: !!binary aGVsbG8=\n",
		"x: {login: !!set {a, b}, host: 1:30.5, schema: 0x1F}\n")
}
