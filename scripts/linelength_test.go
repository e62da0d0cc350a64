package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLineLengthCountsWhatCanBeBroken(t *testing.T) {
	long := strings.Repeat("word ", 20) + "x" // 101 columns
	tests := []struct {
		name, file, text string
		long             bool
	}{
		{"100 columns", "a.go", "//" + long[3:], false},
		{"101 columns", "a.go", "//" + long[2:], true},
		{"a tab is four", "a.go", "\t//" + long[7:], false},
		{"a tab is not one", "a.go", "\t//" + long[6:], true},
		{"letters, and not bytes", "a.go", "//" + strings.Repeat("é", 98), false},
		{"a raw string", "a.go", "var x = `" + long + "`", false},
		{"a raw string of several lines", "a.go", "var x = `\n" + long + "\n`", false},
		{"after a raw string", "a.go", "var x = `\n`\n//" + long, true},
		{"a quote that begins no raw string", "a.go", "var x = '`' //" + long, true},
		{"a directive", "a.go", "//go:embed " + long, false},
		{"a URL", "a.md", "See https://" + strings.Repeat("x", 100), false},
		{"a table", "a.md", "| " + long + " |", false},
		{"prose", "a.md", long, true},
		{"code in Markdown", "a.md", "```\n" + long + "\n```", false},
		{"prose after code", "a.md", "```\n```\n" + long, true},
		{"Python", "a.py", "# " + long, true},
		{"a shell script", "a", "#!/usr/bin/env bash\n# " + long, true},
		{"any other file", "a.json", long, false},
		{"golden data", "testdata/a.py", "# " + long, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("./linelength", path).CombinedOutput()
			if (err != nil) != tt.long {
				t.Errorf("linelength: %v, want a long line: %v\n%s", err, tt.long, out)
			}
		})
	}
}
