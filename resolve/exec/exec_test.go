package exec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/exec"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// pluginVariable is set in the environment of the process that is a plugin.
const pluginVariable = "CONNFS_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if name := os.Getenv(pluginVariable); name != "" {
		plugin(name)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// plugin answers requests, each plugin in its own way.
func plugin(name string) {
	in := json.NewDecoder(os.Stdin)
	say := func(v any) {
		text, _ := json.Marshal(v)
		os.Stdout.Write(append(text, '\n'))
	}
	var held []any
	for {
		var r struct {
			N      uint64
			Op, ID string
		}
		if in.Decode(&r) != nil {
			return
		}
		if r.Op == "hello" {
			switch name {
			case "mute":
				continue
			case "version":
				say(map[string]any{"n": r.N, "version": 2})
				continue
			}
			say(map[string]any{"n": r.N, "version": 1, "can": []string{"list"}})
			continue
		}
		found := map[string]any{"n": r.N, "id": r.ID, "result": "found", "value": "mysql://" + r.ID}
		switch {
		case r.Op == "list":
			say(map[string]any{"n": r.N, "result": "ok", "ids": []string{"x", "y", "x"}})
		case name == "hangs" || name == "hangs on x" && r.ID == "x":
		case name == "dies on x" && r.ID == "x":
			os.Exit(3)
		case name == "dies":
			os.Exit(3)
		case name == "child":
			// Its own child holds the pipes open.
			p, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"},
				&os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
			if err != nil {
				panic(err)
			}
			found["value"] = fmt.Sprintf("a://%d", p.Pid)
			say(found)
		case name == "reads nothing":
			say(found)
			time.Sleep(time.Hour)
		case name == "flood":
			for range 5000 {
				fmt.Fprintln(os.Stderr, strings.Repeat("flood ", 1000)+"\x1b[31m")
			}
			say(found)
		case name == "nonsense":
			os.Stdout.WriteString("s3cret nonsense\n")
		case name == "half":
			os.Stdout.WriteString(`{"n": `)
			os.Exit(0)
		case name == "long":
			os.Stdout.WriteString(strings.Repeat("s3cret", 10<<20/6))
			os.Stdout.WriteString("\n")
		case name == "other id":
			found["id"] = "another"
			say(found)
		case name == "other number":
			found["n"] = r.N + 1000
			say(found)
		case name == "backwards":
			// Answers in another order than the requests.
			held = append(held, found)
			if len(held) == 10 {
				slices.Reverse(held)
				for _, a := range held {
					say(a)
				}
				held = nil
			}
		case r.ID == "environment":
			found["value"], found["fields"] = nil,
				map[string]any{"extra": strings.Join(os.Environ(), "\n"), "conn_type": "x"}
			say(found)
		case slices.Contains([]string{"absent", "denied", "unreachable", "timeout", "invalid"},
			r.ID):
			say(map[string]any{"n": r.N, "id": r.ID, "result": r.ID,
				"reason": "because\nof \x1b[31m" + strings.Repeat("x", 1000)})
		case r.ID == "strange result":
			say(map[string]any{"n": r.N, "id": r.ID, "result": "maybe"})
		case r.ID == "both":
			found["fields"] = map[string]any{}
			say(found)
		case r.ID == "empty":
			found["value"] = ""
			say(found)
		case r.ID == "surrogate":
			fmt.Printf(`{"n": %d, "id": "surrogate", "result": "found", "value": "a://\ud800"}`+"\n", r.N)
		case r.ID == "sealed":
			found["value"] = `{"connfs_sealed": 1}`
			say(found)
		case r.ID == "sealed fields":
			found["value"], found["fields"] = nil, map[string]any{"connfs_sealed": 1}
			say(found)
		default:
			say(found)
		}
	}
}

// testPlugin is this binary as the plugin of that name.
func testPlugin(t testing.TB, name string) backend.Backend {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return resolvetest.Open(t, exec.Open, map[string]any{
		"command":     []string{self},
		"environment": map[string]string{pluginVariable: name},
	})
}

func outcome(c *conn.Connection, err error) string {
	if err != nil {
		return conn.KindOf(err).String()
	}
	return resolvetest.HostOf(c)
}

func get(t testing.TB, b backend.Backend, id string, timeout time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c, err := b.Connection(ctx, id)
	return outcome(c, err), err
}

func examplePlugin(t testing.TB, file string) backend.Backend {
	t.Helper()
	script, err := filepath.Abs("../../integration/plugin/jsonfile.py")
	if err != nil {
		t.Fatal(err)
	}
	return resolvetest.Open(t, exec.Open,
		map[string]any{"command": []string{"/usr/bin/python3", script, file}})
}

func TestConforms(t *testing.T) {
	resolvetest.Run(t, resolvetest.Harness{
		New: func(t *testing.T, connections map[string]*conn.Connection) backend.Backend {
			path := filepath.Join(t.TempDir(), "connections.json")
			resolvetest.ReplaceFile(t, path, resolvetest.ObjectOf(t, connections))
			return examplePlugin(t, path)
		},
		Unreachable: func(t *testing.T) backend.Backend {
			return examplePlugin(t, filepath.Join(t.TempDir(), "none.json"))
		},
	})
}

func TestAnswersHaveKinds(t *testing.T) {
	b := testPlugin(t, "good")
	for id, want := range map[string]string{
		"h": "h", "absent": "absent", "denied": "denied", "unreachable": "unreachable",
		"timeout": "timeout", "invalid": "invalid",
		"empty": "absent", "both": "unreachable", "strange result": "unreachable",
		"surrogate": "invalid",
	} {
		got, err := get(t, b, id, 10*time.Second)
		if got != want && (want != "timeout" || got != conn.Timeout.String()) {
			t.Errorf("%s: %s, want %s (%v)", id, got, want, err)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 500) {
			t.Errorf("%s: the reason is not one short line: %q", id, err)
		}
	}
	for id, want := range map[string]string{"sealed": `{"connfs_sealed": 1}`, "sealed fields": `{"connfs_sealed": 1}`} {
		c, err := b.Connection(t.Context(), id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if extra, _ := c.Extra.Reveal(); extra != want {
			t.Errorf("%s: the extra is not the sealed form", id)
		}
	}
	ids, err := b.(backend.Lister).List(t.Context())
	if diff := cmp.Diff([]string{"x", "y"}, ids); diff != "" || err != nil {
		t.Errorf("list: %v (-want +got):\n%s", err, diff)
	}
	if err := b.(backend.Warmer).Warm(t.Context()); err != nil {
		t.Errorf("warm: %v", err)
	}
	if checks := b.(backend.Checker).Check(t.Context()); len(checks) != 1 || checks[0].Err != nil {
		t.Errorf("check: %v", checks)
	}
}

func TestSendsNoPaths(t *testing.T) {
	b := testPlugin(t, "dies")
	for _, id := range []string{"", ".", "..", "a/../b", "/a", "a/", "a//b", "a\x00", "a\nb",
		"a\rb", "a\u2028b", "\xff"} {
		if got, err := get(t, b, id, 10*time.Second); got != "absent" {
			t.Errorf("%q: %v, want absent", id, err)
		}
	}
}

func TestGivesNothingOfItsEnvironment(t *testing.T) {
	t.Setenv("CONNFS_S3CRET", "s3cret")
	c, err := testPlugin(t, "good").Connection(t.Context(), "environment")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := c.Extra.Reveal()
	var names []string
	for _, line := range strings.Split(text, "\n") {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{pluginVariable, "LANG", "PATH"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnswersInAnyOrder(t *testing.T) {
	b := testPlugin(t, "backwards")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := fmt.Sprint("h", i)
			if got, err := get(t, b, id, 20*time.Second); got != id {
				t.Errorf("%s: %s (%v)", id, got, err)
			}
		})
	}
	wg.Wait()
}

func TestProgramsThatFail(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	for name, want := range map[string]string{
		"mute": "timeout", "version": "unreachable", "hangs": "timeout", "dies": "unreachable",
		"nonsense": "unreachable", "half": "unreachable",
		"long": "unreachable", "other id": "unreachable", "other number": "unreachable",
	} {
		t.Run(name, func(t *testing.T) {
			b := testPlugin(t, name)
			for range 3 {
				start := time.Now()
				timeout := 30 * time.Second
				if want == "timeout" {
					timeout = 1500 * time.Millisecond
				}
				got, err := get(t, b, "x", timeout)
				if got != want && (want != "timeout" || got != conn.Timeout.String()) {
					t.Errorf("%s, want %s (%v)", got, want, err)
				}
				if err != nil && strings.Contains(err.Error(), "s3cret") {
					t.Errorf("the error shows what the program wrote: %v", err)
				}
				if took := time.Since(start); took > timeout+resolvetest.Patience {
					t.Errorf("answered after %v", took)
				}
			}
		})
	}
	goleak.VerifyNone(t, leaks)
}

func TestProgramsAreStartedAgain(t *testing.T) {
	b := testPlugin(t, "dies on x")
	for range 5 {
		if got, err := get(t, b, "x", 5*time.Second); got != "unreachable" {
			t.Errorf("%s, want unreachable (%v)", got, err)
		}
		if err := resolvetest.Within(20*time.Second,
			func() error { _, err := get(t, b, "h", 20*time.Second); return err }); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	b = testPlugin(t, "hangs on x")
	if got, err := get(t, b, "h", 5*time.Second); got != "h" {
		t.Fatal(err)
	}
	// A reader in a hurry ends no program that others can use.
	if got, err := get(t, b, "x", 50*time.Millisecond); got != conn.Timeout.String() {
		t.Errorf("%s, want a timeout (%v)", got, err)
	}
	if got, err := get(t, b, "h", 5*time.Second); got != "h" {
		t.Errorf("%s (%v)", got, err)
	}
}

func TestProgramsThatReadNothing(t *testing.T) {
	b := testPlugin(t, "reads nothing")
	if got, err := get(t, b, "h", 5*time.Second); got != "h" {
		t.Fatal(err)
	}
	// More than the pipe holds.
	id := strings.Repeat("x", 1000)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if got, err := get(t, b, id, 1500*time.Millisecond); got != conn.Timeout.String() {
				t.Errorf("%s, want a timeout (%v)", got, err)
			}
		})
	}
	wg.Wait()
	if err := resolvetest.Within(20*time.Second,
		func() error { _, err := get(t, b, "h", 20*time.Second); return err }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestFloodsOfErrorsAreCutShort(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	b := testPlugin(t, "flood")
	if got, err := get(t, b, "h", 20*time.Second); got != "h" {
		t.Errorf("%s (%v)", got, err)
	}
	b.(interface{ Close() error }).Close()
	if log.Len() == 0 || log.Len() > 20_000 || strings.Contains(log.String(), "\x1b") {
		t.Errorf("%d bytes are logged", log.Len())
	}
}

func TestEndsWhatItsProgramStarted(t *testing.T) {
	b := testPlugin(t, "child")
	got, err := get(t, b, "h", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(got, &pid)
	if pid < 2 || syscall.Kill(pid, 0) != nil {
		t.Fatalf("there is no process %q", got)
	}
	b.(interface{ Close() error }).Close()
	gone := func() error {
		// Whoever adopts it need not have waited for it.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	}
	if err := resolvetest.Within(5*time.Second, gone); err != nil {
		t.Error(err)
	}
}

func TestTrustsNoFileThatOthersCanChange(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	resolvetest.WriteProgram(t, program, []byte("#!/bin/sh\nexit 0\n"))
	argument := filepath.Join(dir, "argument")
	resolvetest.ReplaceFile(t, argument, "")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	mode := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	try := func(command ...string) string {
		b := resolvetest.Open(t, exec.Open, map[string]any{"command": command})
		got, _ := get(t, b, "x", 10*time.Second)
		return got
	}
	mode(program, 0o700)
	if got := try(program, argument); got != "unreachable" {
		t.Errorf("a program that ends at once: %s", got)
	}
	mode(argument, 0o622)
	if got := try(program, argument); got != "denied" {
		t.Errorf("an argument that others can write to: %s", got)
	}
	mode(program, 0o720)
	if got := try(program); got != "denied" {
		t.Errorf("a program that the group can write to: %s", got)
	}
	if got := try(link); got != "denied" {
		t.Errorf("a link to it: %s", got)
	}
	mode(program, 0o700)
	mode(dir, 0o777)
	if got := try(program); got != "denied" {
		t.Errorf("a directory that others can write to: %s", got)
	}
	mode(dir, 0o777|os.ModeSticky)
	if got := try(program); got != "unreachable" {
		t.Errorf("one in which they cannot replace it: %s", got)
	}
	mode(dir, 0o700)
	if os.Geteuid() == 0 {
		if err := os.Chown(program, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if got := try(program); got != "denied" {
			t.Errorf("a program of another user: %s", got)
		}
	}
	if got := try(filepath.Join(dir, "none")); got != "unreachable" {
		t.Errorf("no program: %s", got)
	}
}

func TestArguments(t *testing.T) {
	for kwargs, want := range map[string]string{
		`{}`:                                  "command: expected a list of texts",
		`{"command": []}`:                     "command: expected a list of texts",
		`{"command": "/bin/true"}`:            "command: expected a list of texts",
		`{"command": ["true"]}`:               "command: expected a list of texts",
		`{"command": ["/bin/true", 5]}`:       "command: expected a list of texts",
		`{"command": ["/bin/true"], "a": ""}`: "a: connfs does not know this argument",
		`{"command": ["/bin/true"], "environment": {"A": 5}}`:     "environment: expected an object of texts",
		`{"command": ["/bin/true"], "environment": {"A=B": "c"}}`: "environment: expected an object of texts",
		`{"command": ["/bin/true"], "environment": {"A": "b"}}`:   "",
	} {
		_, err := backend.Open(&backend.Secrets{Kwargs: kwargs}, exec.Open)
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", kwargs, err, want)
		}
	}
}
