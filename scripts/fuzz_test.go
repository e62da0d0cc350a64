// Package scripts tests the scripts of this directory that judge other tests.
package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a run of the fuzzer prints.
const (
	seedsOnly = "fuzz: elapsed: 6s, gathering baseline coverage: 9/300 completed\nPASS\nok  p 6s\n"
	fuzzed    = "fuzz: elapsed: 6s, execs: 812 (135/sec), new interesting: 3 (total: 41)\nPASS\n"
	noExecs   = "fuzz: elapsed: 6s, execs: 0 (0/sec), new interesting: 0 (total: 41)\n"
	someExecs = "fuzz: elapsed: 6s, execs: 812 (135/sec), new interesting: 3 (total: 41)\n"
	deadline  = "--- FAIL: FuzzIt (6.05s)\n    context deadline exceeded\nFAIL\nexit status 1\n"
	finding   = someExecs + "--- FAIL: FuzzIt (2.05s)\n    --- FAIL: FuzzIt (0.00s)\n" +
		"        it_test.go:9: context deadline exceeded\n    \n" +
		"    Failing input written to testdata/fuzz/FuzzIt/8a5\n" +
		"    To re-run:\n    go test -run=FuzzIt/8a5\nFAIL\n"
	minimizing = "fuzz: minimizing 37-byte failing input file\n" + someExecs + deadline
	badSeed    = "failure while testing seed corpus entry: FuzzIt/seed#0\n" + deadline
	panicking  = "panic: oh\n\ngoroutine 1 [running]:\nFAIL p 0.1s\n"
)

// fakeGo answers what scripts/fuzz asks of go, for one package with one fuzz target. The
// n-th run of the fuzzer is the script $RUNS/n.
const fakeGo = `#!/bin/sh
case "$*" in
"list -f {{.Dir}}"*) echo "$RUNS/package" ;;
"list "*) echo github.com/connfs/connfs/package ;;
"test -list "*) echo FuzzIt; echo "ok package" ;;
*) n=$(($(cat "$RUNS/count") + 1)); echo $n >"$RUNS/count"; exec sh "$RUNS/$n" "$@" ;;
esac
`

// run is one run of the fuzzer.
type run struct {
	prints string
	fails  bool
	input  bool // whether it leaves a failing input behind
}

func TestFuzzTellsFindingsFromTheEndOfTheFuzzer(t *testing.T) {
	// The fuzzer's own end, after it tried inputs.
	ended := run{prints: someExecs + deadline, fails: true}
	tests := []struct {
		name string
		runs []run
		fail bool
		want string // part of what is printed
	}{
		{"fuzzed", []run{{prints: fuzzed}}, false, "ok    ./package FuzzIt: execs: 812\n"},
		{"only seeds, then fuzzed", []run{{prints: seedsOnly}, {prints: fuzzed}}, false,
			"FuzzIt: execs: 812\n"},
		{"only seeds twice", []run{{prints: seedsOnly}, {prints: seedsOnly}}, true,
			"FAIL  ./package"},
		{"a finding", []run{{prints: finding, fails: true, input: true}}, true,
			"Failing input written"},
		{"a finding in the second run",
			[]run{ended, {prints: finding, fails: true}},
			true, "Failing input written"},
		{"a panic", []run{{prints: panicking, fails: true}}, true, "panic: oh"},
		{"a bad seed", []run{{prints: badSeed, fails: true}}, true, "seed corpus entry"},
		{"the deadline, then fuzzed",
			[]run{ended, {prints: fuzzed}}, false,
			"812, in a second run: the first ended with \"context deadline exceeded\"\n"},
		{"the deadline twice, after inputs",
			[]run{ended, ended}, false,
			"812, no failing input; but the fuzzer ended with \"context deadline exceeded\"\n"},
		{"the deadline twice, without inputs",
			[]run{{prints: deadline, fails: true}, {prints: noExecs + deadline, fails: true}},
			true, "FAIL  ./package"},
		{"the deadline after only seeds",
			[]run{{prints: seedsOnly}, {prints: deadline, fails: true}}, true, "FAIL  ./package"},
		{"the deadline with an input left behind",
			[]run{{prints: someExecs + deadline, fails: true, input: true}}, true,
			"FAIL  ./package"},
		{"the deadline while minimizing", []run{{prints: minimizing, fails: true}}, true,
			"FAIL  ./package"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			printed, err := fuzz(t, tt.runs)
			if (err != nil) != tt.fail {
				t.Errorf("scripts/fuzz: %v, want a failure: %v; it printed:\n%s",
					err, tt.fail, printed)
			}
			if !strings.Contains(printed, tt.want) {
				t.Errorf("scripts/fuzz printed:\n%s\nwithout %q", printed, tt.want)
			}
		})
	}
}

// fuzz runs scripts/fuzz with a go that behaves as runs say, and checks that all of them,
// and no more, took place.
func fuzz(t *testing.T, runs []run) (printed string, err error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/go", fakeGo)
	write("count", "0")
	write("package/it_test.go", "func FuzzIt(f *testing.F) {}\n")
	write("package/testdata/fuzz/FuzzIt/old", "an input that was found before")
	for i, r := range runs {
		write(fmt.Sprintf("%d.txt", i+1), r.prints)
		script := fmt.Sprintf("cat \"$RUNS/%d.txt\"\n", i+1)
		if r.input {
			script += "echo new >\"$RUNS/package/testdata/fuzz/FuzzIt/new\"\n"
		}
		if r.fails {
			script += "exit 1\n"
		}
		write(fmt.Sprint(i+1), script)
	}
	cmd := exec.Command("./fuzz")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"),
		"RUNS="+dir, "FUZZTIME=6s")
	out, err := cmd.CombinedOutput()
	count, readErr := os.ReadFile(filepath.Join(dir, "count"))
	if readErr != nil {
		t.Fatal(readErr)
	}
	if got := strings.TrimSpace(string(count)); got != fmt.Sprint(len(runs)) {
		t.Errorf("the fuzzer ran %s times, want %d", got, len(runs))
	}
	return string(out), err
}
