package config_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
)

var update = flag.Bool("update", false, "write the messages that the bad files get into them")

// wanted marks the lines at the end of a bad file that hold its messages.
const wanted = "#! "

// files returns the files of testdata with a prefix.
func files(t *testing.T, prefix string, atLeast int) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/" + prefix + ".*.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < atLeast {
		t.Fatalf("there are %d files, want at least %d", len(paths), atLeast)
	}
	return paths
}

// safe gives files of the repository the permissions that connfs asks for,
// whatever the umask was when they were checked out.
func safe(t *testing.T, path string) {
	t.Helper()
	included, err := filepath.Glob("testdata/include/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(included, path) {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoodFilesLoad(t *testing.T) {
	for _, path := range files(t, "good", 8) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			safe(t, path)
			src := source(t, "")
			src.ConfigFile, src.ConfigExplicit = path, true
			load(t, src)
		})
	}
}

func TestErrorsCanBeTakenApart(t *testing.T) {
	src := source(t, "tll = \"5s\"\n")
	_, err := config.Load(context.Background(), src)
	want := &config.Error{File: src.ConfigFile, Line: 1, Key: "tll", Message: "unknown key",
		Hint: `did you mean "ttl"?`}
	var got *config.Error
	if !errors.As(err, &got) {
		t.Fatalf("got %T", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestBadFilesSayWhatIsWrong(t *testing.T) {
	for _, path := range files(t, "bad", 75) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			safe(t, path)
			src := source(t, "")
			src.ConfigFile, src.ConfigExplicit = path, true
			_, err := config.Load(context.Background(), src)
			if err == nil {
				t.Fatal("the file loads")
			}
			got := strings.ReplaceAll(err.Error(), "testdata/", "")

			data, readErr := os.ReadFile(path)
			if readErr != nil {
				t.Fatal(readErr)
			}
			text, messages, _ := strings.Cut(string(data), wanted)
			if *update {
				text += wanted + strings.ReplaceAll(got, "\n", "\n"+wanted) + "\n"
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.ReplaceAll(strings.TrimSuffix(messages, "\n"), "\n"+wanted, "\n")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}
