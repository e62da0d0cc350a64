package main

import (
	"runtime/debug"
	"testing"
)

func TestVersionNamesTheRevisionUnlessTheLinkerSetOne(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123"}
	clean := debug.BuildSetting{Key: "vcs.modified", Value: "false"}
	dirty := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, c := range []struct {
		name, linked string
		settings     []debug.BuildSetting
		want         string
	}{
		{"without a repository", "", []debug.BuildSetting{{Key: "CGO_ENABLED"}}, "0.1.0"},
		{"of a revision", "", []debug.BuildSetting{revision, clean}, "0.1.0+0123456789ab"},
		{"of changes", "", []debug.BuildSetting{dirty, revision}, "0.1.0+0123456789ab-dirty"},
		{"of the linker", "1.2.3", []debug.BuildSetting{revision, dirty}, "1.2.3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := buildVersion(c.linked, c.settings); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
