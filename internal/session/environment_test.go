package session

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/connfs/connfs/internal/settings"
)

// cleanseVariable makes this test binary do what a daemon does first.
const cleanseVariable = "CONNFS_TEST_CLEANSE"

func TestMain(m *testing.M) {
	if os.Getenv(cleanseVariable) != "" {
		cleansed()
		return
	}
	os.Exit(m.Run())
}

// cleansed prints what the process shows of its environment, and what it kept.
func cleansed() {
	if err := Cleanse(); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	shown, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	env, err := loadEnvironment()
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for range 2 { // at start and at a reload
		block, err := env.block()
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		printBlock("kept", block.Bytes())
		block.Close()
	}
	printBlock("shown", shown)
	printBlock("go", []byte(strings.Join(os.Environ(), "\x00")))
	printBlock("child", []byte(strings.Join(childEnvironment(), "\x00")))
	printBlock("args", []byte(strings.Join(os.Args[1:], "\x00")))
	files, _ := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		target, _ := os.Readlink("/proc/self/fd/" + f.Name())
		if strings.Contains(target, "memfd") {
			fmt.Println("descriptor", target)
		}
	}
}

func printBlock(what string, block []byte) {
	for _, entry := range bytes.Split(bytes.Trim(block, "\x00"), []byte{0}) {
		fmt.Printf("%s %q\n", what, entry)
	}
}

func runCleansed(t *testing.T, env ...string) []string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "mount", "/conn")
	cmd.Env = append(env, cleanseVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestCleanseMovesAirflowsVariablesOutOfTheEnvironment(t *testing.T) {
	secrets := []string{
		"AIRFLOW_CONN_A=postgres://u:hunter2@h", "AIRFLOW__CORE__FERNET_KEY=hunter2",
		"AIRFLOW_HOME=/a", "AIRFLOW_CONN_EMPTY=", "AWS_SECRET_ACCESS_KEY=hunter2",
		"VAULT_TOKEN=hunter2",
	}
	lines := runCleansed(t, append([]string{"PLAIN=1", "NOTIFY_SOCKET=/run/x"}, secrets...)...)
	for _, line := range lines {
		if (strings.Contains(line, "AIRFLOW_") || strings.Contains(line, "hunter2")) &&
			!strings.HasPrefix(line, "kept ") {
			t.Errorf("still there: %s", line)
		}
		if strings.HasPrefix(line, "descriptor ") {
			t.Errorf("the descriptor stays open: %s", line)
		}
	}
	for _, entry := range append(secrets, "PLAIN=1", "NOTIFY_SOCKET=/run/x") {
		want, n := fmt.Sprintf("kept %q", entry), 0
		for _, line := range lines {
			if line == want {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d blocks of 2 hold %s", n, strings.SplitN(entry, "=", 2)[0])
		}
	}
	for _, want := range []string{
		`args "mount"`, `args "/conn"`, `shown "PLAIN=1"`, `child "PLAIN=1"`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no %s", want)
		}
	}
	if slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, `child "NOTIFY`) || strings.HasPrefix(l, `child "CONNFS_ENV`)
	}) {
		t.Error("children get what is the daemon's")
	}
}

func TestCleanseHasNothingToDoWithoutAirflow(t *testing.T) {
	lines := runCleansed(t, "PLAIN=1")
	if !slices.Contains(lines, `kept "PLAIN=1"`) ||
		strings.Contains(strings.Join(lines, "\n"), environmentFD) {
		t.Errorf("%q", lines)
	}
}

func TestAWrongDescriptorOfTheEnvironmentIsAnError(t *testing.T) {
	t.Setenv(environmentFD, "987")
	if _, err := loadEnvironment(); err == nil {
		t.Error("no error")
	}
	if os.Getenv(environmentFD) != "" {
		t.Error("the variable is still there")
	}
}

func TestChildrenGetNeitherSecretsNorTheServiceManager(t *testing.T) {
	for _, name := range []string{
		"AIRFLOW_CONN_X", "AIRFLOW__CORE__FERNET_KEY", "AWS_SESSION_TOKEN",
		"GOOGLE_APPLICATION_CREDENTIALS", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS",
		"LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", environmentFD,
	} {
		t.Setenv(name, "must not be passed on")
	}
	t.Setenv("CONNFS_TEST_PLAIN", "may be")
	env := childEnvironment()
	if !slices.Contains(env, "CONNFS_TEST_PLAIN=may be") {
		t.Error("what is harmless is not passed on")
	}
	for _, entry := range env {
		if strings.HasSuffix(entry, "=must not be passed on") {
			t.Errorf("passed on: %s", strings.SplitN(entry, "=", 2)[0])
		}
	}
	child := &settings.Child{UID: 7, GID: 8, Groups: []uint32{9}}
	s := &Session{Front: settings.Front{Child: child}}
	c := s.poolCommand()
	if c.Credential == nil || c.Credential.Uid != 7 || c.Credential.Gid != 8 ||
		!slices.Equal(c.Credential.Groups, []uint32{9}) {
		t.Errorf("credential %+v", c.Credential)
	}
	if (&Session{}).poolCommand().Credential != nil {
		t.Error("children of an ordinary user are given another one")
	}
}

func TestChildrenMayWriteWhatTheConfigurationSaysAndWhatIsRewritten(t *testing.T) {
	front := settings.Front{Writable: []string{"/cache"}, DatabaseDir: "/airflow"}
	for _, c := range []struct {
		name     string
		front    settings.Front
		rewrites bool
		want     []string
	}{
		{"nothing", settings.Front{DatabaseDir: "/airflow"}, false, nil},
		{"writable", front, false, []string{"/cache"}},
		{"a database in a file, to rewrite rows", front, true, []string{"/cache", "/airflow"}},
		{"a server, to rewrite rows", settings.Front{}, true, nil},
	} {
		got := (&Session{Front: c.front, Options: Options{Rewrites: c.rewrites}}).poolCommand()
		if got.Confine.WriteAnywhere || !slices.Equal(got.Confine.Writable, c.want) {
			t.Errorf("%s: %+v, want %q", c.name, got.Confine, c.want)
		}
		if told := slices.Contains(got.Args, WritesArgument); told != (len(c.want) > 0) {
			t.Errorf("%s: the child is told that it may write: %v", c.name, told)
		}
	}
}

func TestServiceIsToldFromAShellInAService(t *testing.T) {
	names := []string{"INVOCATION_ID", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET"}
	own := strconv.Itoa(os.Getpid())
	for name, c := range map[string]struct {
		values [3]string // "-": the variable is not set
		want   bool
	}{
		"by hand":                      {[3]string{"-", "-", "-"}, false},
		"a unit":                       {[3]string{"1", own, "-"}, true},
		"a unit of an older systemd":   {[3]string{"1", "-", "-"}, true},
		"a unit that notifies":         {[3]string{"-", "-", "/run/x"}, true},
		"a shell in a terminal's unit": {[3]string{"1", "1", "-"}, false},
		"variables that are empty":     {[3]string{"", "-", ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for i, name := range names {
				t.Setenv(name, c.values[i]) // which also restores it
				if c.values[i] == "-" {
					if err := os.Unsetenv(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := Service(); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
