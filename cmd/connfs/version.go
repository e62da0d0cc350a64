package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the version of a build that the linker was told one (-X main.version=1.2.3).
var version string

// defaultVersion is the version of every other build.
const defaultVersion = "0.1.0"

// buildVersion returns the version of this binary. Without one from the linker it names the
// revision, where Go recorded it: 0.1.0+1234567890ab, and "-dirty" where the source differed.
func buildVersion(linked string, settings []debug.BuildSetting) string {
	if linked != "" {
		return linked
	}
	revision, dirty := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = "+" + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return defaultVersion
	}
	return defaultVersion + revision + dirty
}

var versionCommand = command{
	name: "version", summary: "print the version",
	examples: `  connfs version
  connfs version --json
`,
	options: (*flags).jsonOption,
	run:     (*program).version,
}

func (p *program) version(_ context.Context, fl *flags) error {
	if fl.NArg() > 0 {
		return &usageError{"it takes no argument", fl.Name()}
	}
	var settings []debug.BuildSetting
	if info, ok := debug.ReadBuildInfo(); ok {
		settings = info.Settings
	}
	v, platform := buildVersion(version, settings), runtime.GOOS+"/"+runtime.GOARCH
	if fl.json {
		return json.NewEncoder(p.stdout).Encode(map[string]string{
			"version": v, "go": runtime.Version(), "platform": platform,
		})
	}
	fmt.Fprintf(p.stdout, "connfs %s (%s, %s)\n", v, runtime.Version(), platform)
	return nil
}
