package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/policy"
)

// lines returns the findings, one line each, without their hints.
func (r *report) lines() []string {
	var lines []string
	for _, f := range r.findings {
		lines = append(lines, fmt.Sprintf("%s %s: %s", f.Level, f.Subject, f.Message))
	}
	return lines
}

// fakeProc is a /proc in which some files may not be read.
type fakeProc struct {
	fstest.MapFS
	closed map[string]bool
}

func (p fakeProc) Open(name string) (fs.File, error) {
	if p.closed[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return p.MapFS.Open(name)
}

func (p fakeProc) ReadFile(name string) ([]byte, error) {
	if p.closed[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return p.MapFS.ReadFile(name)
}

func (p fakeProc) ReadLink(name string) (string, error) {
	if p.closed[name] {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrPermission}
	}
	return p.MapFS.ReadLink(name)
}

// add makes a process. Its arguments and variables are separated by blanks.
func (p fakeProc) add(pid int, exe string, uid int, args, variables string) {
	dir := fmt.Sprint(pid)
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	zeros := func(s string) string { return strings.ReplaceAll(s, " ", "\x00") + "\x00" }
	p.MapFS[dir+"/exe"] = &fstest.MapFile{Data: []byte(exe), Mode: fs.ModeSymlink}
	p.MapFS[dir+"/status"] = file(fmt.Sprintf(
		"Name:\tpython3\nUmask:\t0022\nUid:\t0\t0\t0\t%d\nGid:\t0\t0\t0\t0\n", uid))
	p.MapFS[dir+"/cmdline"] = file(zeros(args))
	p.MapFS[dir+"/environ"] = file(zeros(variables))
	p.MapFS[dir+"/limits"] = file("Limit  Soft Limit  Hard Limit  Units\n" +
		"Max core file size        0                    unlimited            bytes     \n")
}

const connfsExe = "/usr/local/bin/connfs"

func newProc() fakeProc {
	self := &fstest.MapFile{Data: []byte(connfsExe), Mode: fs.ModeSymlink}
	p := fakeProc{fstest.MapFS{"self/exe": self}, make(map[string]bool)}
	p.add(1, "/sbin/init", 0, "/sbin/init", "AWS_SECRET_ACCESS_KEY=of-init")
	return p
}

var billing = []policy.Grant{
	{RunAsUser: "billing", UID: new(uint32(5001))},
	{RunAsUser: "#5002", UID: new(uint32(5002))},
	{RunAsUser: "ghost"},
}

func TestReadersAreGrantedUsersAndWorkers(t *testing.T) {
	p := newProc()
	p.add(100, "/usr/bin/python3", 5001, "python3 x.py", "")
	p.add(20, "/usr/bin/python3", 5002, "sh", "")
	p.add(21, connfsExe, 5001, "connfs resolver", "")
	p.add(22, connfsExe, 5001, "connfs resolver", "")
	p.closed["22/exe"] = true
	p.MapFS["22/status"] = &fstest.MapFile{
		Data: []byte("Name:\tconnfs\nUid:\t5001\t5001\t5001\t5001\n"),
	}
	for i, line := range []string{
		"/venv/bin/python /venv/bin/airflow celery worker", "airflow worker -- 0192-a",
		"python3 -m airflow scheduler", "airflow standalone",
		"/venv/bin/python /venv/bin/airflow tasks run d t r --raw",
		"[celeryd: celery@host:MainProcess] -active- (worker)",
		// None of these starts a task.
		"airflow api-server", "airflow", "grep airflow worker", "python3 -m http.server", "",
		"vi airflow/worker",
	} {
		p.add(1000+i, "/usr/bin/python3", 50000, line, "")
	}
	p.MapFS["1000x/status"] = &fstest.MapFile{}
	p.MapFS["2000/comm"] = &fstest.MapFile{} // a process that has just ended
	var got []string
	for _, r := range readers(p, billing) {
		got = append(got, r.String())
	}
	want := []string{"pid 20 (python3, uid 5002)", "pid 100 (python3, uid 5001 billing)"}
	for pid := 1000; pid <= 1005; pid++ {
		want = append(want, fmt.Sprintf("pid %d (python3, uid 50000)", pid))
	}
	want = append(want, "pid 1008 (python3, uid 50000)") // a guess by words can be wrong
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readers (-want +got):\n%s", diff)
	}
}

func TestCheckNamesVariablesAndNeverTheirValues(t *testing.T) {
	p := newProc()
	python := func(pid, uid int, args string, variables ...string) {
		p.add(pid, "/usr/bin/python3", uid, args, strings.Join(variables, " "))
	}
	python(10, 5001, "python3", "PATH=/bin", "AIRFLOW__CORE__FERNET_KEY=s3cret",
		"AIRFLOW_CONN_X=s3cret", "HOME=/")
	python(11, 5001, "python3", "AIRFLOW_CONN_X=s3cret-2", "AIRFLOW__CORE__FERNET_KEY=s3cret")
	python(12, 5002, "python3", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD=s3cret",
		"AIRFLOW__CORE__SQL_ALCHEMY_CONN_SECRET=s3cret", "VAULT_TOKEN=s3cret-own")
	python(13, 5002, "python3",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=airflow-db-not-allowed:///", "VAULT_TOKEN=",
		"AIRFLOW__CORE__DAGS_FOLDER=/d", "AIRFLOW__API_AUTH__JWT=x")
	python(14, 50000, "airflow worker", "AIRFLOW__API_AUTH__JWT_SECRET_CMD=s3cret",
		"GOOGLE_APPLICATION_CREDENTIALS=s3cret", "AIRFLOW_CONN_A\x1b[2J=s3cret")
	tasks := readers(p, billing)
	const use = ", whose tasks can use it without asking connfs"
	for _, c := range []struct {
		name, own string
		closed    []string
		want      []string
	}{
		{"others' environments", "PATH=/bin", nil, []string{
			"warn environment: AIRFLOW_CONN_X, AIRFLOW__CORE__FERNET_KEY: in the environment of " +
				"pid 10 (python3, uid 5001 billing) and 1 more" + use,
			"warn environment: AIRFLOW__CORE__SQL_ALCHEMY_CONN_SECRET, " +
				"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD, VAULT_TOKEN: in the environment of " +
				"pid 12 (python3, uid 5002)" + use,
			`warn environment: "AIRFLOW_CONN_A\x1b[2J", AIRFLOW__API_AUTH__JWT_SECRET_CMD, ` +
				"GOOGLE_APPLICATION_CREDENTIALS: in the environment of " +
				"pid 14 (python3, uid 50000)" + use,
		}},
		{
			"connfs's own, which a task has too",
			"VAULT_TOKEN=s3cret-own\x00AIRFLOW__CORE__FERNET_KEY=s3cret-other",
			[]string{"10/environ", "11/environ", "14/environ"},
			[]string{
				"warn environment: connfs was started with AIRFLOW__CORE__FERNET_KEY, " +
					"VAULT_TOKEN: what started it has them too, and so has whoever can look " +
					"into that",
				"fail environment: VAULT_TOKEN: the environment of pid 12 (python3, uid 5002) " +
					"has the value that connfs was started with",
				"warn environment: AIRFLOW__CORE__SQL_ALCHEMY_CONN_SECRET, " +
					"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD: in the environment of " +
					"pid 12 (python3, uid 5002)" + use,
				"warn environment: the environments of 3 of the 5 processes of readers and " +
					"workers cannot be read",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			clear(p.closed)
			for _, path := range c.closed {
				p.closed[path] = true
			}
			var r report
			r.checkEnvironments(p, tasks, c.own)
			if diff := cmp.Diff(c.want, r.lines()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	var r report
	r.checkEnvironments(p, tasks[3:4], "")
	want := []string{"ok environment: no credential of connfs in the environment of any reader " +
		"or worker that runs now (1 of them)"}
	if diff := cmp.Diff(want, r.lines()); diff != "" {
		t.Errorf("a clean environment (-want +got):\n%s", diff)
	}
}

func TestCheckSaysWhatACrashLeavesBehind(t *testing.T) {
	const safe = "ok core dumps: connfs leaves none: its processes are not dumpable, whatever " +
		"kernel.core_pattern says"
	const unsafe = "fail core dumps: a crash of connfs would write secrets to a core dump"
	quiet := newProc()
	quiet.add(10, "/usr/bin/python3", 5001, "python3", "")
	open := newProc()
	open.add(10, "/usr/bin/python3", 5001, "python3", "")
	open.MapFS["10/limits"] = &fstest.MapFile{Data: []byte(
		"Max core file size        unlimited            unlimited            bytes     \n")}
	for _, c := range []struct {
		name     string
		proc     fakeProc
		pattern  string
		dumpable bool
		limit    uint64
		want     []string
	}{
		{"a program", quiet, "|/usr/lib/systemd/systemd-coredump %P %u\n", false, 0, []string{safe,
			"warn core dumps: the dump of a task that crashes, with what the task has read, goes " +
				"to /usr/lib/systemd/systemd-coredump, whatever its RLIMIT_CORE is"}},
		{"a socket", quiet, "@/run/cores\n", false, 0, []string{safe,
			"warn core dumps: the dump of a task that crashes, with what the task has read, goes " +
				"to the socket /run/cores, whatever its RLIMIT_CORE is"}},
		{"a program that keeps nothing", quiet, "|/bin/false\n", false, 0, []string{safe,
			"ok core dumps: a task that crashes leaves none: kernel.core_pattern sends its dump " +
				"to /bin/false"}},
		{"files that nobody may write", quiet, "core\n", false, 0, []string{safe,
			"ok core dumps: a task that crashes leaves none: RLIMIT_CORE is 0 for every reader " +
				"and worker that runs now (1 of them)"}},
		{"files", open, "/var/cores/core.%p\n", false, 0, []string{safe,
			"warn core dumps: a task that crashes writes what it has read to a file " +
				`(kernel.core_pattern "/var/cores/core.%p"), unless RLIMIT_CORE is 0, which it ` +
				`is ` +
				"not for pid 10 (python3, uid 5001 billing)"}},
		{"files, and nobody there", newProc(), "core\n", false, 0, []string{safe,
			`ok core dumps: kernel.core_pattern names a file ("core"), and no task or worker ` +
				`runs ` +
				"now whose RLIMIT_CORE could be checked"}},
		{"connfs itself is dumpable", quiet, "core\n", true, 0, []string{unsafe,
			"ok core dumps: a task that crashes leaves none: RLIMIT_CORE is 0 for every reader " +
				"and worker that runs now (1 of them)"}},
		{"a limit that was raised again", quiet, "|/bin/false", false, 1, []string{unsafe,
			"ok core dumps: a task that crashes leaves none: kernel.core_pattern sends its dump " +
				"to /bin/false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.proc.MapFS["sys/kernel/core_pattern"] = &fstest.MapFile{Data: []byte(c.pattern)}
			var r report
			r.checkCores(c.proc, c.dumpable, c.limit, readers(c.proc, billing))
			if diff := cmp.Diff(c.want, r.lines()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	_, err := fs.ReadFile(newProc(), "sys/kernel/core_pattern")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var r report
	r.checkCores(newProc(), false, 0, nil)
	want := []string{safe, "warn core dumps: where the dump of a task that crashes would go is " +
		"not known: kernel.core_pattern cannot be read"}
	if diff := cmp.Diff(want, r.lines()); diff != "" {
		t.Errorf("without a core_pattern (-want +got):\n%s", diff)
	}
}
