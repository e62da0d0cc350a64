//go:build integration

package integration_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/integration/servers"
	"github.com/connfs/connfs/resolve/resolvetest"
)

// The tests below that are not parallel keep the processors busy, and would delay those
// that measure times.

// stranger is a uid that no test grants anything.
const stranger = 5004

// probes are the programs of fusefloor/probes that were compiled so far.
var probes struct {
	sync.Mutex
	compiled map[string]string
}

// probe compiles a hostile reader, with more flags if it needs them, and returns its path.
func probe(t *testing.T, name string, flags ...string) string {
	t.Helper()
	probes.Lock()
	defer probes.Unlock()
	if path, ok := probes.compiled[name]; ok {
		return path
	}
	path := filepath.Join(baseDir, "probe-"+name)
	cmd := exec.Command("cc", append(flags, "-O2", "-Wall", "-Wextra", "-Werror", "-o", path,
		filepath.Join("fusefloor", "probes", name+".c"))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling %s.c: %v\n%s", name, err, out)
	}
	must(t, os.Chmod(path, 0o755))
	if probes.compiled == nil {
		probes.compiled = make(map[string]string)
	}
	probes.compiled[name] = path
	return path
}

// says runs a program that must succeed, and returns what it printed.
func says(t *testing.T, uid int, args ...string) string {
	t.Helper()
	out, stderr, code := output(t, uid, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("uid %d: %s: exit code %d: %s", uid, filepath.Base(args[0]), code, stderr)
	}
	return string(out)
}

// gained is the result of one way of reading, in the words of passed.c.
type gained struct {
	outcome  string
	data     string
	resident bool // in the page cache, afterwards
}

// passed has uid read from descriptors that from opened, in each of the ways that
// passed.c knows, or in those that are named.
func passed(t *testing.T, path string, from, to int, ways ...string) map[string]gained {
	t.Helper()
	all := make(map[string]gained)
	args := append([]string{probe(t, "passed"), path, strconv.Itoa(from), strconv.Itoa(to)},
		ways...)
	for line := range strings.Lines(says(t, 0, args...)) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			t.Fatalf("passed says %q", line)
		}
		data, err := hex.DecodeString(strings.TrimSuffix(fields[2], "-"))
		must(t, err)
		all[fields[0]] = gained{fields[1], string(data), fields[3] != "0"}
	}
	return all
}

// Ways of reading from a descriptor: those that give the content to a user who may read it,
// those that the kernel may not know, and those through the page cache, which give it to
// nobody.
var (
	directWays = []string{
		"read", "pread", "preadv2", "preadv2-hipri", "preadv2-sync", "odirect", "aio", "uring",
		"reopen", "reopen-path", "sendfile-odirect",
	}
	optionalWays = []string{"preadv2-nowait", "preadv2-dontcache"}
	cachedWays   = []string{
		"splice", "sendfile", "sendfile-socket", "copy_file_range", "mmap-private", "mmap-shared",
		"mmap-populate", "readahead", "fadvise", "madvise-populate", "vmsplice", "write-mapping",
		"process_vm_readv",
	}
)

func TestPassedDescriptorGivesNothingAway(t *testing.T) {
	d, mine, _ := two(t)
	total := len(directWays) + len(optionalWays) + len(cachedWays) + 1
	for _, to := range []int{alice, bob, 0} {
		got := passed(t, d.file("mine"), alice, to)
		if len(got) != total {
			t.Errorf("%d ways of reading, want %d", len(got), total)
		}
		for way, g := range got {
			if g.resident {
				t.Errorf("uid %d, %s: content is left in the page cache", to, way)
			}
			may := to == alice && !slices.Contains(cachedWays, way) && way != "handle"
			if g.data != "" && (!may || g.data != mine) {
				t.Errorf("uid %d, %s: %s and %d bytes", to, way, g.outcome, len(g.data))
			}
		}
		for _, way := range directWays {
			want := gained{outcome: "EACCES"}
			if to == alice {
				want = gained{outcome: strconv.Itoa(len(mine)), data: mine}
			}
			if got[way] != want {
				t.Errorf("uid %d, %s: %+v, want %+v", to, way, got[way], want)
			}
		}
		for _, way := range cachedWays {
			if outcome := got[way].outcome; !strings.HasPrefix(outcome, "E") &&
				!strings.HasPrefix(outcome, "SIG") {
				t.Errorf("uid %d, %s: %q", to, way, outcome)
			}
		}
		// A handle bypasses the directory, but not the open.
		want := gained{outcome: "EPERM"}
		if to == 0 {
			want.outcome = "EACCES"
		}
		if got["handle"] != want {
			t.Errorf("uid %d, handle: %+v, want %+v", to, got["handle"], want)
		}
	}
}

// The probe works: through the page cache of an ordinary file, anybody with the descriptor
// gets the content.
func TestPassedDescriptorOfAnOrdinaryFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path, text := filepath.Join(s.dir, "ordinary"), "an ordinary file\n"
	must(t, os.WriteFile(path, []byte(text), 0o400), os.Chown(path, alice, alice))
	for way, g := range passed(t, path, alice, bob) {
		if g.data != text && !slices.Contains(optionalWays, way) &&
			!slices.Contains(
				[]string{
					"handle", "reopen", "reopen-path", "odirect", "sendfile-odirect",
					"copy_file_range",
				},
				way,
			) {
			t.Errorf("%s: %s %q, want the content", way, g.outcome, g.data)
		}
		if !g.resident {
			t.Errorf("%s: the page is not in the page cache", way)
		}
	}
}

func TestDescriptorPassedOverASocket(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	for to, want := range map[int]string{
		alice: fmt.Sprintf("open 0\nread %d\nreopen 0\n", len(mine)),
		bob:   "open 0\nread EACCES\nreopen EACCES\n",
		0:     "open 0\nread EACCES\nreopen EACCES\n",
	} {
		if diff := cmp.Diff(
			want,
			says(t, 0, probe(t, "fdpass"), d.file("mine"), strconv.Itoa(alice), strconv.Itoa(to)),
		); diff != "" {
			t.Errorf("to uid %d (-want +got):\n%s", to, diff)
		}
	}
}

// A directory's descriptor shows what its reader may read, not what its opener may.
func TestPassedDirectoryListsForItsReader(t *testing.T) {
	t.Parallel()
	d, _, _ := two(t)
	for to, want := range map[int]string{
		alice: "mine.json\n", bob: "yours.json\n", stranger: "", 0: "",
	} {
		for _, from := range []int{alice, bob, stranger} {
			if got := passed(t, d.mount, from, to, "getdents")["getdents"]; got.data != want {
				t.Errorf("opened by uid %d, read by %d: %+v, want %q", from, to, got, want)
			}
		}
	}
}

func TestSetUserIDProgramReadsAsItsOwner(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	read := fmt.Sprintf("open 0\nread %d\n", len(mine))
	for i, c := range []struct {
		owner, caller int
		how           []string
		want          string
	}{
		{alice, bob, nil, "access EACCES\n" + read}, // access(2) asks for the real uid
		{alice, bob, []string{"drop"}, "access EACCES\nopen 0\nread EACCES\n"},
		{alice, 0, nil, "access EACCES\n" + read},
		{alice, 0, []string{"drop"}, "access EACCES\nopen 0\nread EACCES\n"},
		{bob, alice, nil, "access 0\nopen EACCES\n"},
		{0, alice, nil, "access 0\nopen EACCES\n"},
		{0, alice, []string{"fsuid", strconv.Itoa(alice)}, "access 0\n" + read},
		{0, 0, []string{"fsuid", strconv.Itoa(alice)}, "access EACCES\n" + read},
		{0, 0, []string{"fsuid", strconv.Itoa(bob)}, "access EACCES\nopen EACCES\n"},
	} {
		text, err := os.ReadFile(probe(t, "setuidread"))
		must(t, err)
		program := filepath.Join(d.dir, fmt.Sprint("setuidread", i))
		resolvetest.WriteProgram(t, program, text)
		must(t, os.Chown(program, c.owner, c.owner),
			unix.Chmod(program, unix.S_ISUID|0o755))
		if diff := cmp.Diff(
			c.want, says(t, c.caller, append([]string{program, d.file("mine")}, c.how...)...),
		); diff != "" {
			t.Errorf("program of uid %d run by %d, %v (-want +got):\n%s", c.owner, c.caller, c.how,
				diff)
		}
	}
}

func TestUserNamespacesChangeNobody(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	path := d.file("mine")
	for _, flags := range []string{"-Ur", "-U", "-Urmpf"} {
		if got := says(t, alice, "unshare", flags, "cat", path); got != mine {
			t.Errorf("unshare %s by uid %d: %q", flags, alice, got)
		}
		for _, uid := range []int{bob, stranger, 0} {
			if out, stderr, code := output(t, uid, "unshare", flags, "cat", path); code != 1 ||
				len(out) > 0 || !strings.Contains(stderr, "Permission denied") {
				t.Errorf("unshare %s by uid %d: exit code %d, %d bytes, %s", flags, uid, code,
					len(out), stderr)
			}
		}
	}
	read := fmt.Sprintf("open 0\nread %d\n", len(mine))
	for _, c := range []struct {
		base, uid int // the namespace's uid 0 outside of it, and the uid inside
		want      string
	}{
		{alice, 0, read},
		{alice - 7, 7, read},
		{bob, 0, "open EACCES\n"},
		{100_000, 0, "open EACCES\n"},
		{100_000, alice, "open EACCES\n"},
		{100_000, -1, "open EACCES\n"}, // root, unmapped
	} {
		if got := says(
			t, 0, probe(t, "userns"), strconv.Itoa(c.base), strconv.Itoa(c.uid), path,
		); got != c.want {
			t.Errorf("uid %d of a namespace from %d on: %q, want %q", c.uid, c.base, got, c.want)
		}
	}
}

// An overlay reads as the user who mounted it.
func TestOverlayReadsAsRoot(t *testing.T) {
	t.Parallel()
	for _, granted := range []bool{false, true} {
		s := newSite(t)
		text := fileText("http", "h.example", "made-up", "")
		grants := grant(alice, "mine")
		if granted {
			grants += grant(0, "mine")
		}
		s.configure("", s.environment("AIRFLOW_CONN_MINE="+strings.TrimSpace(text))+grants)
		s.serve()
		for _, uid := range []int{alice, bob, 0} {
			// What it writes to is a filesystem of its own, which ends with the namespace.
			script := fmt.Sprintf(`mkdir -p %[1]s/scratch && mount -t tmpfs none %[1]s/scratch && cd %[1]s/scratch && mkdir upper work merged
mount -t overlay -o lowerdir=%[2]s,upperdir=upper,workdir=work none merged
exec setpriv --reuid=%[3]d --regid=%[3]d --clear-groups cat merged/mine.json`, s.dir, s.mount, uid)
			out, stderr, code := output(t, 0, "unshare", "--mount", "--propagation", "private",
				"sh", "-ec", script)
			switch {
			case !granted &&
				(len(out) > 0 || code != 1 || !strings.Contains(stderr, "Permission denied")):
				t.Errorf("uid %d over an overlay, root not granted: %d bytes, exit code %d, %s",
					uid, len(out), code, stderr)
			case granted && uid == 0 && string(out) != text:
				t.Errorf("root over an overlay, granted: %q, exit code %d, %s", out, code, stderr)
			case granted && uid != 0 && len(out) > 0 && string(out) != text:
				t.Errorf("uid %d over an overlay, root granted: %q", uid, out)
			}
		}
	}
}

// The kernel shares its directory entries among all users. Nothing that others do to the
// same names may change what one user has open, or what root has mounted.
func TestOutsidersDisturbNothing(t *testing.T) {
	t.Parallel()
	d, mine, yours := two(t)
	path, over, bound := d.file("mine"), d.file("yours"), filepath.Join(d.dir, "bound")
	note := filepath.Join(d.dir, "note")
	must(t, os.WriteFile(bound, nil, 0o444), os.WriteFile(note, []byte("mounted over\n"), 0o444))
	a, b := as(t, alice), as(t, bob)
	b.reads(over, yours)
	if got := a.do(request{Op: "open", Path: path}); got.failure() != "" {
		t.Fatal(got.failure())
	}
	for target, source := range map[string]string{bound: path, over: note} {
		says(t, 0, "mount", "-o", "bind,ro", source, target)
		t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	}

	outsiders := []*reader{b, as(t, stranger), as(t, 0)}
	for range 3 {
		for _, r := range outsiders {
			for _, q := range []request{
				{Op: "stat"}, {Op: "read"}, {Op: "access", N: unix.R_OK},
				{Op: "openflags", N: unix.O_WRONLY}, {Op: "openflags", N: unix.O_PATH},
				{Op: "openflags", N: unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY}, {Op: "mkdir"},
				{Op: "symlink"}, {Op: "unlink"}, {Op: "chmod"}, {Op: "truncate"},
				{Op: "rename", Path2: over}, {Op: "link", Path2: d.file("new")},
			} {
				for _, q.Path = range []string{path, over} {
					if got := r.do(q); len(got.Data) > 0 && string(got.Data) != "mounted over\n" {
						t.Errorf("uid %d, %s: %d bytes", r.uid, q.Op, len(got.Data))
					}
				}
			}
			// The kernel looks up again the target of a rename, and what must not exist.
			r.do(request{Op: "rename", Path: d.file("new"), Path2: path})
			r.do(request{Op: "list", Path: d.mount})
		}
	}

	fds := fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid)
	entries, err := os.ReadDir(fds)
	must(t, err)
	var links []string
	for _, e := range entries {
		if to, _ := os.Readlink(filepath.Join(fds, e.Name())); strings.HasPrefix(to, d.mount) {
			links = append(links, to)
		}
	}
	if diff := cmp.Diff([]string{path}, links); diff != "" {
		t.Errorf("what uid %d has open (-want +got):\n%s", alice, diff)
	}
	if got := a.do(request{Op: "pread", Path: path}); string(got.Data) != mine {
		t.Errorf("pread: %q and %d bytes", got.failure(), len(got.Data))
	}
	if !mounted(t, bound) || !mounted(t, over) {
		t.Errorf("root's mounts are gone: of the file %v, over the file %v", !mounted(t, bound),
			!mounted(t, over))
	}
	a.reads(bound, mine)
	as(t, 0).fails(bound, "EACCES")
	as(t, bob).reads(over, "mounted over\n")
}

// blackHole listens on a loopback port, where it answers nothing.
func blackHole(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var connections []net.Conn
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections = append(connections, c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
		for _, c := range connections {
			c.Close()
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// resident returns how much memory the daemon and its children occupy, in KiB.
func (d *daemon) resident() (kib int) {
	d.t.Helper()
	front, children := d.processes()
	for _, pid := range append(children, front) {
		kib += residentProcess(d.t, pid)
	}
	return kib
}

// residentProcess returns how much memory a process occupies, in KiB; 0: it is gone.
func residentProcess(t *testing.T, pid int) int {
	t.Helper()
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			must(t, err)
			return kib
		}
	}
	return 0
}

// background starts a program under uid. The function that it returns ends the
// program's standard input and returns what else it prints until it ends.
func background(t *testing.T, uid int, args ...string) (
	cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader, end func() string,
) {
	t.Helper()
	cmd = exec.Command("env", args...) // found on the PATH of that user
	cmd.SysProcAttr, cmd.Dir, cmd.Env, cmd.Stderr = credential(uid), "/",
		[]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	out = bufio.NewReader(pipe)
	t.Cleanup(func() {
		timer.Stop()
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, in, out, func() string {
		t.Helper()
		in.Close()
		rest, err := io.ReadAll(out)
		must(t, err)
		return strings.TrimSpace(string(rest))
	}
}

// undisturbed checks that a file can be read, each time within five seconds, and returns
// the longest time.
func (r *reader) undisturbed(path, want string) (slowest time.Duration) {
	r.t.Helper()
	for range 50 {
		got := r.read(path)
		if got.failure() != "" || string(got.Data) != want {
			r.t.Errorf("uid %d reads %s: %q and %d bytes", r.uid, path, got.failure(),
				len(got.Data))
		}
		slowest = max(slowest, got.Elapsed)
	}
	if slowest > 5*time.Second {
		r.t.Errorf("uid %d waited %v for %s", r.uid, slowest, path)
	}
	return slowest
}

func TestCrowdOfBlockedReaders(t *testing.T) {
	for _, c := range []struct {
		name  string
		files int
		ttl   string
	}{
		{"of 20 files, while another's is cached", 20, "60s"},
		{"of a file each, while another's is fetched", 2000, "0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const crowd = 2000
			s := newSite(t)
			yours := fileText("http", "yours.example", "made-up", "")
			url := fmt.Sprintf("postgresql://u:p@127.0.0.1:%d/airflow?sslmode=disable", blackHole(t))
			s.configure(fmt.Sprintf("timeout = \"60s\"\nttl = %q", c.ttl),
				metastoreTable(url, newKey(t))+
					s.environment("AIRFLOW_CONN_YOURS="+strings.TrimSpace(yours))+
					grant(alice, "m*")+grant(bob, "yours"))
			d := s.serve()
			b := as(t, bob)
			b.reads(d.file("yours"), yours)
			before := d.resident()

			args := []string{probe(t, "crowd"), strconv.Itoa(crowd)}
			for i := range c.files {
				args = append(args, d.file(fmt.Sprint("m", i)))
			}
			cmd, _, out, end := background(t, alice, args...)
			if line, err := out.ReadString('\n'); line != "started\n" {
				t.Fatalf("the crowd says %q, %v", line, err)
			}
			text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children",
				cmd.Process.Pid))
			must(t, err)
			pids := strings.Fields(string(text))
			if len(pids) != crowd {
				t.Fatalf("%d readers, want %d", len(pids), crowd)
			}
			for _, field := range pids {
				pid, err := strconv.Atoi(field)
				must(t, err)
				blocked(t, pid)
			}

			slowest := b.undisturbed(d.file("yours"), yours)
			grown := d.resident() - before
			if grown > 96<<10 {
				t.Errorf("the daemon grew by %d KiB", grown)
			}
			var killed, took int
			line := end()
			if _, err := fmt.Sscanf(line, "killed %d %d", &killed, &took); err != nil ||
				killed != crowd || took > 10_000 {
				t.Errorf("the crowd says %q; want all %d killed within 10 s", line, crowd)
			}
			b.reads(d.file("yours"), yours)
			t.Logf(
				"%d blocked readers: %d KiB more; another user's slowest read %v; all killed in "+
					"%d ms",
				crowd, grown, slowest, took,
			)
		})
	}
}

// Asynchronous reads that wait for a backend take up the kernel's few places for
// requests in the background, and nobody else's reads.
func TestQueueOfAsynchronousReads(t *testing.T) {
	t.Parallel()
	db, key, s := servers.StartPostgres(t), newKey(t), newSite(t)
	db.Exec("airflow", rows(t, key, []string{"made-up"}))
	p := startProxy(t, db.Port)
	yours := fileText("http", "yours.example", "made-up", "")
	s.configure("timeout = \"10s\"\nttl = \"0s\"",
		metastoreTable(p.url(db.URL("airflow", db.Password, "airflow")), key)+
			s.environment("AIRFLOW_CONN_YOURS="+strings.TrimSpace(yours))+
			grant(alice, "*")+grant(bob, "yours"))
	d := s.serve()
	b := as(t, bob)

	cmd, in, out, end := background(t, alice, probe(t, "aioqueue"), "256", d.file("m0"))
	if line, err := out.ReadString('\n'); line != "open\n" {
		t.Fatalf("the reader says %q, %v", line, err)
	}
	p.swallow()
	_, err := in.Write([]byte("\n"))
	must(t, err)
	if line, err := out.ReadString('\n'); line != "submitting\n" {
		t.Fatalf("the reader says %q, %v", line, err)
	}
	eventually(t, "the places are taken", func() bool {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", cmd.Process.Pid))
		must(t, err)
		return strings.Contains(string(call), "fuse")
	})
	t.Logf("another user's slowest read: %v", b.undisturbed(d.file("yours"), yours))
	p.refuse()
	if line := end(); line != "failed 256" {
		t.Errorf("the reader says %q, want all of its reads to fail", line)
	}
}

// quantile returns the q-th part of durations that are sorted.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}

func TestFloodOfRefusalsHarmsNoReader(t *testing.T) {
	d, mine, _ := two(t)
	a := as(t, alice)
	granted := 0
	reads := func(during time.Duration) string {
		t.Helper()
		var took []time.Duration
		for until := time.Now().Add(during); time.Now().Before(until); {
			got := a.read(d.file("mine"))
			if got.failure() != "" || string(got.Data) != mine {
				t.Fatalf("a granted read: %q and %d bytes", got.failure(), len(got.Data))
			}
			took = append(took, got.Elapsed)
		}
		granted += len(took)
		slices.Sort(took)
		return fmt.Sprintf("%d reads, p50 %v, p99 %v", len(took), quantile(took, 0.5),
			quantile(took, 0.99))
	}
	before := reads(time.Second)
	_, _, _, end := background(t, stranger, probe(t, "flood"), "8", d.file("mine"))
	during := reads(3 * time.Second)
	var calls, opened int
	line := end()
	if _, err := fmt.Sscanf(line, "%d %d", &calls, &opened); err != nil || calls < 1000 ||
		opened != 0 {
		t.Errorf("the flood says %q; want many calls, and no open that succeeds", line)
	}
	as(t, stranger).fails(d.file("mine"), "EACCES")
	if n := len(d.auditLines(`"op":"open"`, `"allowed":true`)); n != granted {
		t.Errorf("%d audit lines of granted opens, want %d", n, granted)
	}
	t.Logf("before: %s; during %d refused calls: %s", before, calls, during)
}

// A mapping that is to be filled at once asks again and again for a page that is refused.
// It can be ended, and harms nobody else.
func TestRefusedMappingCanBeKilled(t *testing.T) {
	d, _, yours := two(t)
	cmd, _, out, _ := background(t, alice, "python3.11", "-c",
		`import mmap, sys; f = open(sys.argv[1]); m = mmap.mmap(f.fileno(), 1, mmap.MAP_PRIVATE | mmap.MAP_POPULATE, mmap.PROT_READ); sys.stdout.write(repr(m[0]))`, d.file("mine"))
	pid := cmd.Process.Pid
	eventually(t, "the mapping is refused", func() bool {
		return len(d.auditLines(`"op":"read"`, `"errno":"EINVAL"`,
			fmt.Sprintf(`"uid":%d`, alice))) > 0
	})
	as(t, bob).reads(d.file("yours"), yours)
	if s := state(pid); s == 0 || s == 'Z' {
		t.Logf("this kernel ends the process by itself")
	}
	start := time.Now()
	must(t, unix.Kill(pid, unix.SIGKILL))
	eventually(t, "the process is gone", func() bool { s := state(pid); return s == 0 || s == 'Z' })
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the process ended after %v", took)
	}
	if text, err := io.ReadAll(out); err != nil || len(text) > 0 {
		t.Errorf("the mapping gave %d bytes, %v", len(text), err)
	}
	as(t, bob).reads(d.file("yours"), yours)
}
