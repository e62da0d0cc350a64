package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/config"
	"github.com/connfs/connfs/internal/settings"
	"github.com/connfs/connfs/kms"
	"github.com/connfs/connfs/resolve/all"
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

// The sample of a grant that names DAGs only is a comment, so that whoever copies the file
// chooses it.
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
		sample = regexp.MustCompile(`(?m)^((\S+ += (".*?"|\d+|true|false|\{.*\}|\[.*\])|\[.*\])).*$`).ReplaceAllString(sample, "$1")
		src := source(t, sample)
		for _, kind := range kms.Kinds() {
			for _, key := range kind.Keys {
				if key.Form == kms.SecretFile {
					path := filepath.Join(filepath.Dir(src.ConfigFile), key.Sample)
					write(t, path, localKey, 0o400)
				}
			}
		}
		got := load(t, src)
		if (got.Resolver.Secrets == nil) == (len(got.KMS) == 0) {
			t.Errorf("this is neither a backend nor a KMS:\n%s", sample)
		}
	}
	if samples < 9 {
		t.Errorf("only %d samples were found", samples)
	}
}

// commonKMSKeys are the keys that a [kms.NAME] of any type has, beside its type.
var commonKMSKeys = []kms.Key{
	{Name: "mode", Sample: "envelope", Help: "or direct: the KMS itself encrypts the fields"},
	{Name: "cache_ttl", Sample: "1m", Help: "keep unwrapped data keys so long, and for"},
	{Name: "cache_uses", Sample: "100", Help: "so many uses; by default none is kept"},
	{
		Name: "sealed", Sample: "false",
		Help: "true: refuse whatever no such KMS has sealed",
	},
}

// kmsSamples writes [kms.NAME] tables with every key that each kind declares, as comments.
func kmsSamples() string {
	var b strings.Builder
	for i, kind := range kms.Kinds() {
		var first, second []kms.Key
		excluded := make(map[string]bool)
		for _, key := range kind.Keys {
			if excluded[key.Name] {
				if needed, ok := kind.Key(key.Needs); ok {
					second = append(second, needed)
				}
				second = append(second, key)
				continue
			}
			excluded[key.Excludes] = true
			first = append(first, key)
		}
		if i == 0 {
			first = append(first, commonKMSKeys...)
		}
		writeSample(&b, kind.Type, kind.Type, first)
		if len(second) > 0 {
			writeSample(&b, kind.Type+"_2", kind.Type, second)
		}
	}
	return b.String()
}

func writeSample(b *strings.Builder, name, kmsType string, keys []kms.Key) {
	keys = append([]kms.Key{{Name: "type", Sample: kmsType}}, keys...)
	value := func(key kms.Key) string {
		if _, err := strconv.Atoi(key.Sample); err == nil || key.Sample == "false" {
			return key.Sample
		}
		return strconv.Quote(key.Sample)
	}
	names, values := 0, 0
	for _, key := range keys {
		names = max(names, len(key.Name))
		if n := len(value(key)); key.Help != "" && n <= 20 {
			values = max(values, n)
		}
	}
	fmt.Fprintf(b, "# [kms.%s]\n", name)
	for _, key := range keys {
		line := fmt.Sprintf("# %-*s = %s", names, key.Name, value(key))
		if key.Help != "" {
			line = fmt.Sprintf("# %-*s = %-*s # %s", names, key.Name, values, value(key), key.Help)
		}
		fmt.Fprintln(b, line)
	}
	fmt.Fprintln(b)
}

// The kinds of KMS declare their keys, with a sample of each; -update writes them into the
// example.
func TestExampleShowsEveryKindOfKMS(t *testing.T) {
	const begin, end = "A sample of each type:\n", "[audit]\n"
	before, rest, ok := strings.Cut(readExample(t), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the samples of KMS are not where they should be")
	}
	want := kmsSamples()
	if *update {
		text := before + begin + want + end + after
		if err := os.WriteFile(exampleFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got; -update writes them):\n%s", diff)
	}
	for line := range strings.Lines(want) {
		if len(line) > 100 {
			t.Errorf("a sample is longer than 100 columns: %s", line)
		}
	}
}

func TestDocumentedBackendsAreThere(t *testing.T) {
	data, err := os.ReadFile("../../docs/secrets.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (?:`(airflow[\\w.]+)`)? ?\\| \\[")
	rows := row.FindAllStringSubmatch(string(data), -1)
	var documented []string
	for _, row := range rows {
		documented = append(documented, row[1])
		for _, name := range row[1:] {
			if got, err := all.AlternativeName(name); name != "" && (err != nil || got != row[1]) {
				t.Errorf("%s stands for %q: %v", name, got, err)
			}
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(all.Names(), documented); diff != "" {
		t.Errorf("documented backends (-there are +documented):\n%s", diff)
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
