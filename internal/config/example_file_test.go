package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/resolve"
)

const exampleFile = "../../config.toml.example"

func readExample(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestExampleLoads(t *testing.T) {
	src := source(t, readExample(t))
	src.NeedMount = true
	got := load(t, src)
	if diff := cmp.Diff([]settings.Mount{{Path: "/conn"}}, got.Front.Mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if len(got.Front.Rules) != 2 || got.Front.TTL != 5*time.Second {
		t.Errorf("%d rules and a ttl of %v, want 2 and 5s", len(got.Front.Rules), got.Front.TTL)
	}
	if got.Front.DAGs != nil {
		t.Errorf("no rule is derived, and there is %+v", got.Front.DAGs)
	}
	if len(got.Warnings) > 0 {
		t.Errorf("warnings: %q", got.Warnings)
	}
}

// The sample of a grant that names DAGs only is a comment: whoever copies the file
// must choose it.
func TestExampleOfADerivedGrantLoads(t *testing.T) {
	text := readExample(t)
	begin := strings.Index(text, "\n# [[grant]]\n")
	if begin < 0 {
		t.Fatal("there is no such sample")
	}
	sample, rest, _ := strings.Cut(text[begin:], "\n\n")
	src := source(t, text[:begin]+strings.ReplaceAll(sample, "\n# ", "\n")+"\n\n"+rest)
	got := load(t, src)
	if len(got.Front.Rules) != 3 || !got.Front.Rules[2].Derived() || got.Front.DAGs == nil {
		t.Errorf("rules %+v, DAGs %+v", got.Front.Rules, got.Front.DAGs)
	}
	if len(got.Warnings) != 1 {
		t.Errorf("warnings: %q", got.Warnings)
	}
}

// The samples of backends and KMS are comments, each of which must load by itself.
func TestExamplesOfBackendsAndKMSLoad(t *testing.T) {
	samples := 0
	for _, block := range strings.Split(readExample(t), "\n\n") {
		begin := regexp.MustCompile(`(?m)^# \[(secrets|kms\.\w+)\]$`).FindStringIndex(block)
		if begin == nil {
			continue
		}
		samples++
		sample := strings.ReplaceAll(block[begin[0]:], "# ", "")
		sample = regexp.MustCompile(`(?m)^((\S+ += (".*?"|\d+|\{.*\}|\[.*\])|\[.*\])).*$`).ReplaceAllString(sample, "$1")
		src := source(t, sample)
		write(t, filepath.Join(filepath.Dir(src.ConfigFile), "kek"), localKey, 0o400)
		write(t, filepath.Join(filepath.Dir(src.ConfigFile), "gcp.json"), "{}", 0o400)
		got := load(t, src)
		if (got.Resolver.Secrets == nil) == (len(got.KMS) == 0) {
			t.Errorf("this is neither a backend nor a KMS:\n%s", sample)
		}
	}
	if samples < 9 {
		t.Errorf("only %d samples were found", samples)
	}
}

func TestDocumentedBackendsAreThere(t *testing.T) {
	data, err := os.ReadFile("../../docs/secrets.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (?:`(airflow[\\w.]+)`)? ?\\| \\[").FindAllStringSubmatch(string(data), -1)
	if len(rows) != 6 {
		t.Errorf("%d backends, want 6", len(rows))
	}
	for _, row := range rows {
		for _, name := range row[1:] {
			if got, err := resolve.AlternativeName(name); name != "" && (err != nil || got != row[1]) {
				t.Errorf("%s stands for %q: %v", name, got, err)
			}
		}
	}
}

// An example that others can read must not be refused: it holds no secret.
func TestExampleHoldsNoSecret(t *testing.T) {
	src := source(t, "")
	src.ConfigFile = filepath.Join(t.TempDir(), "config.toml")
	write(t, src.ConfigFile, readExample(t), 0o644)
	load(t, src)
}

func TestExampleShowsEveryKey(t *testing.T) {
	text := readExample(t)
	for _, table := range config.Contract {
		section := text
		switch table.Name {
		case "":
			section, _, _ = strings.Cut(text, "\n[")
		default:
			header := regexp.MustCompile(`(?m)^(# )?\[{1,2}` + table.Name + `[].]`).FindStringIndex(text)
			if header == nil {
				t.Errorf("[%s] is not there", table.Name)
				continue
			}
			section = text[header[1]:]
		}
		for _, key := range table.Keys {
			shown := regexp.MustCompile(`(?m)^(# )?` + key + ` *=`).MatchString(section)
			if table.Name == "" { // a table is shown by its header
				shown = shown || regexp.MustCompile(`(?m)^(# )?\[{1,2}`+key+`[].]`).MatchString(text)
			}
			if !shown {
				t.Errorf("%s.%s is not shown", table.Name, key)
			}
		}
	}
}
