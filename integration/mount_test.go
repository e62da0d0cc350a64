//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/conn"
)

// metastores were written and read by real Airflow.
const metastores = "../resolve/metastore/testdata"

// airflowAnswer is what Airflow said about one connection.
type airflowAnswer struct {
	File              *string         `json:"file"`
	JSON              *string         `json:"json"`
	JSONIfExtraIsText *string         `json:"json_if_extra_is_text"`
	Error             string          `json:"error"`
	NoJSON            string          `json:"no_json"`
	Absent            bool            `json:"absent"`
	AnyOf             []airflowAnswer `json:"any_of"`
}

func readAnswers(t *testing.T, version string) map[string]airflowAnswer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(metastores, version, "expected.json"))
	must(t, err)
	var e struct{ Connections map[string]airflowAnswer }
	must(t, json.Unmarshal(text, &e))
	return e.Connections
}

// copyMetastore puts the Airflow home of a version in place of the site's own.
func (s *site) copyMetastore(version string) {
	s.t.Helper()
	for _, name := range []string{"airflow.cfg", "airflow.db"} {
		text, err := os.ReadFile(filepath.Join(metastores, version, name))
		must(s.t, err)
		s.write(name, string(text))
	}
}

// serves says what a reader gets: content, or an errno.
func (a airflowAnswer) serves() (content []string, errno string) {
	switch {
	case a.Absent:
		return nil, "ENOENT"
	case a.JSONIfExtraIsText != nil:
		return []string{*a.JSONIfExtraIsText}, ""
	case a.JSON != nil:
		return []string{*a.JSON}, ""
	case len(a.AnyOf) > 0:
		for _, one := range a.AnyOf {
			if one.JSON != nil {
				content = append(content, *one.JSON)
			}
		}
		return content, ""
	case strings.HasPrefix(a.Error, "InvalidToken"), strings.Contains(a.Error, "Can't decrypt"),
		strings.Contains(a.Error, "Could not create Fernet object"):
		return nil, "EKEYREJECTED"
	}
	return nil, "EBADMSG"
}

func TestMountServesWhatAirflowReads(t *testing.T) {
	versions, err := filepath.Glob(filepath.Join(metastores, "*", "airflow.db"))
	must(t, err)
	if len(versions) < 8 {
		t.Fatalf("metastores of %d versions: the data is not what it was", len(versions))
	}
	for _, database := range versions {
		version := filepath.Base(filepath.Dir(database))
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.copyMetastore(version)
			s.configure("", grant(alice, "*")+grant(bob, "plain_*", "team/*"))
			s.serve()
			granted, other, root := as(t, alice), as(t, bob), as(t, 0)

			var all, some []string
			for id, a := range readAnswers(t, version) {
				name, ok := conn.FileName(id)
				if !ok {
					continue
				}
				if a.File != nil && *a.File != name {
					t.Errorf("%q is the file %q, want %q", id, name, *a.File)
				}
				path := s.mount + "/" + name
				content, errno := a.serves()
				got := granted.read(path)
				switch {
				case got.failure() != errno:
					t.Errorf("%q: %q, want %q", id, got.failure(), errno)
				case errno == "" && !slices.Contains(content, string(got.Data)):
					t.Errorf("%q: %q is not what Airflow reads: %q", id, got.Data, content)
				}
				if mine := strings.HasPrefix(id, "plain_") ||
					strings.HasPrefix(id, "team/"); !mine {
					other.fails(path, "EACCES")
				} else if errno == "" {
					other.reads(path, string(got.Data))
				}
				root.fails(path, "EACCES")
				if !a.Absent {
					all = append(all, name)
					if strings.HasPrefix(id, "plain_") || strings.HasPrefix(id, "team/") {
						some = append(some, name)
					}
				}
			}
			if len(all) < 60 || len(some) < 2 {
				t.Errorf("%d and %d connections: the data is not what it was", len(all), len(some))
			}
			granted.lists(s.mount, all)
			other.lists(s.mount, some)
			root.lists(s.mount, nil)
		})
	}
}

// lists checks what a directory shows, in any order.
func (r *reader) lists(path string, want []string) {
	r.t.Helper()
	got := r.do(request{Op: "list", Path: path})
	if got.failure() != "" {
		r.t.Errorf("uid %d lists %s: %s", r.uid, path, got.failure())
		return
	}
	slices.Sort(got.Names)
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), append([]string{}, got.Names...)); diff != "" {
		r.t.Errorf("uid %d lists %s (-want +got):\n%s", r.uid, path, diff)
	}
}

// two serves two connections, "mine" for alice and "yours" for bob.
func two(t *testing.T) (*daemon, string, string) {
	t.Helper()
	s := newSite(t)
	mine, yours := fileText("http", "mine.example", "made-up-1", ""),
		fileText("http", "yours.example", "made-up-2", "")
	s.configure(`ttl = "1s"`, s.environment("AIRFLOW_CONN_MINE="+strings.TrimSpace(mine),
		"AIRFLOW_CONN_YOURS="+strings.TrimSpace(yours))+
		grant(alice, "mine")+grant(bob, "yours"))
	return s.serve(), mine, yours
}

func TestPolicyHoldsForEveryQuestion(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	path := d.file("mine")
	a, b, root := as(t, alice), as(t, bob), as(t, 0)

	a.fails(d.file("absent"), "EACCES") // not granted, so nobody looks whether it exists
	a.reads(path, mine)
	if st := a.do(request{Op: "stat", Path: path}); st.failure() != "" ||
		st.Size != int64(len(mine)) || st.Mode != unix.S_IFREG|0o400 || st.UID != alice {
		t.Errorf("stat: %+v, want %d bytes, mode 0400 of root", st, len(mine))
	}
	if st := a.do(request{Op: "stat", Path: d.mount}); st.Mode != unix.S_IFDIR|0o555 {
		t.Errorf("stat of the mount: mode %#o, want 0555", st.Mode&0o7777)
	}
	if got := a.do(request{Op: "access", Path: path, N: unix.R_OK}); got.failure() != "" {
		t.Errorf("access for reading: %s", got.failure())
	}
	for _, r := range []*reader{b, root} {
		for _, q := range []request{
			{Op: "stat"}, {Op: "access", N: unix.R_OK}, {Op: "access", N: unix.F_OK}, {Op: "read"},
			{Op: "openflags", N: unix.O_PATH | unix.O_DIRECTORY},
		} {
			q.Path = path
			if got := r.do(q); got.failure() != "EACCES" &&
				!(q.Op == "openflags" && got.failure() == "ENOTDIR") {
				t.Errorf("uid %d, %s: %q, want EACCES", r.uid, q.Op, got.failure())
			}
		}
	}
	for _, tool := range [][]string{
		{"test", "-r", path}, {"test", "-s", path}, {"test", "-f", path},
	} {
		for uid, want := range map[int]int{alice: 0, bob: 1, 0: 1} {
			if _, _, code := output(t, uid, tool...); code != want {
				t.Errorf("uid %d: %s exits with %d, want %d", uid, strings.Join(tool, " "), code,
					want)
			}
		}
	}
	for uid, want := range map[int]string{
		alice: "mine.json\n", bob: "yours.json\n", 0: "", 65534: "",
	} {
		if out, stderr, code := output(t, uid, "ls", d.mount); string(out) != want || code != 0 {
			t.Errorf("ls as uid %d: %q %q (exit %d), want %q", uid, out, stderr, code, want)
		}
	}
	for _, line := range d.auditLines() {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("audit line %q: %v", line, err)
		}
	}
	if n := len(
		d.auditLines(`"uid":5001`, `"id":"mine"`, `"allowed":true`, `"source":"environment"`),
	); n == 0 {
		t.Error("no audit line of a granted read")
	}
	if n := len(d.auditLines(`"uid":0`, `"allowed":false`, `"errno":"EACCES"`)); n == 0 {
		t.Error("no audit line of root's refused read")
	}
}

func TestNobodyWrites(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	a, b := as(t, alice), as(t, bob)
	path, fresh := d.file("mine"), d.mount+"/new"
	for _, q := range []request{
		{Op: "openflags", Path: path, N: unix.O_WRONLY},
		{Op: "openflags", Path: path, N: unix.O_RDWR},
		{Op: "openflags", Path: path, N: unix.O_WRONLY | unix.O_TRUNC},
		{Op: "openflags", Path: path, N: unix.O_WRONLY | unix.O_APPEND},
		{Op: "openflags", Path: fresh, N: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL},
		{Op: "openflags", Path: d.file("other"), N: unix.O_WRONLY | unix.O_CREAT},
		{Op: "openflags", Path: d.mount, N: unix.O_WRONLY | unix.O_TMPFILE},
		{Op: "access", Path: path, N: unix.W_OK},
		{Op: "unlink", Path: path},
		{Op: "rename", Path: path, Path2: fresh},
		{Op: "mkdir", Path: fresh},
		{Op: "symlink", Path: fresh},
		{Op: "link", Path: path, Path2: fresh},
		{Op: "chmod", Path: path},
		{Op: "chown", Path: path},
		{Op: "truncate", Path: path},
		{Op: "touch", Path: path},
	} {
		if got := a.do(q); got.failure() != "EROFS" {
			t.Errorf("uid %d, %s(%#x): %q, want EROFS", alice, q.Op, q.N, got.failure())
		}
		// The kernel itself may say that the mount is read-only.
		if got := b.do(q); got.failure() != "EROFS" && got.failure() != "EACCES" {
			t.Errorf("uid %d, %s(%#x): %q, want EROFS or EACCES", bob, q.Op, q.N, got.failure())
		}
	}
	// Every well-formed name exists, as far as the kernel knows.
	for _, op := range []string{"mkdir", "symlink"} {
		if got := a.do(request{Op: op, Path: d.file("other")}); got.failure() != "EEXIST" {
			t.Errorf("%s of a well-formed name: %q, want EEXIST", op, got.failure())
		}
	}
	a.reads(path, mine)
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.copyMetastore("2.10")
	s.configure("", grant(alice, "*"))
	s.serve()
	a := as(t, alice)
	for name, errno := range map[string]string{
		"plain_all":                          "ENOENT", // no suffix
		"plain_all.json.bak":                 "ENOENT",
		".json":                              "ENOENT",
		"..json":                             "ENOENT", // the id "." is written %2E
		".hidden.json":                       "ENOENT",
		"%2ehidden.json":                     "ENOENT", // small letters
		"team%2fdb%2fprod.json":              "ENOENT",
		"%70lain_all.json":                   "ENOENT", // written otherwise than needed
		"100%25.json":                        "ENOENT", // the id 100%, which is not there
		"plain_all%00.json":                  "ENOENT",
		"plain_all .json":                    "ENOENT",
		"PLAIN_ALL.json":                     "ENOENT",
		strings.Repeat("n", 1020) + ".json":  "ENAMETOOLONG",
		strings.Repeat("n", 1019) + ".json":  "ENOENT",
		strings.Repeat("n", 1024):            "ENOENT",
		strings.Repeat("n", 1025):            "ENAMETOOLONG",
		strings.Repeat("n", 4000):            "ENAMETOOLONG",
		"plain_all.json/":                    "ENOTDIR",
		"plain_all.json/plain_all.json":      "ENOTDIR",
		"' OR 1=1 --.json":                   "ENOENT",
		"plain_all\xff.json":                 "ENOENT",
		"emoji\xf0\x9f\x94\x91\xcc\x81.json": "ENOENT",
	} {
		a.fails(s.mount+"/"+name, errno)
	}
}

func TestMountFlags(t *testing.T) {
	t.Parallel()
	d, _, _ := two(t)
	text, err := os.ReadFile("/proc/mounts")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[1] != d.mount {
			continue
		}
		options := strings.Split(fields[3], ",")
		for _, want := range []string{
			"ro", "nosuid", "nodev", "noexec", "allow_other", "user_id=0",
		} {
			if !slices.Contains(options, want) {
				t.Errorf("not mounted %s: %s", want, line)
			}
		}
		if fields[2] != "fuse.connfs" || slices.Contains(options, "default_permissions") {
			t.Errorf("mounted as %s", line)
		}
		return
	}
	t.Errorf("%s is not in /proc/mounts", d.mount)
}

func TestStopUnmounts(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d, mine, _ := two(t)
		a := as(t, alice)
		a.reads(d.file("mine"), mine)
		must(t, d.cmd.Process.Signal(sig))
		if code := d.wait(); code != 0 {
			t.Errorf("%v: exit code %d", sig, code)
		}
		// What is underneath must not look like a mount without connections.
		for _, uid := range []int{alice, bob} {
			as(t, uid).fails(d.file("mine"), "EACCES")
		}
		st, err := os.Stat(d.mount)
		must(t, err)
		if st.Mode() != os.ModeDir || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%v: the directory underneath has mode %v and belongs to uid %d", sig,
				st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
		}
		if mounted(t, d.mount) {
			t.Errorf("%v: still mounted", sig)
		}
	}
}

// mounted looks into the mount table, which does not ask the daemon.
func mounted(t *testing.T, path string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/mounts")
	must(t, err)
	return strings.Contains(string(text), " "+path+" ")
}

func TestStopWithOpenFiles(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	a := as(t, alice)
	path := d.file("mine")
	a.do(request{Op: "open", Path: path})
	if got := a.do(request{Op: "pread", Path: path}); string(got.Data) != mine {
		t.Fatalf("pread: %+v", got)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(d.log(), "unmounted while files are still open") || mounted(t, d.mount) {
		t.Errorf("the log does not say that a file was open, or it is still mounted:\n%s", d.log())
	}
	if got := a.do(request{Op: "pread", Path: path}); got.Errno != "ENOTCONN" &&
		got.Errno != "ECONNABORTED" {
		t.Errorf("a read after the end: %q and %d bytes", got.Errno, len(got.Data))
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	d, mine, yours := two(t)
	a, b := as(t, alice), as(t, bob)
	configuration, err := os.ReadFile(d.config)
	must(t, err)
	held := d.file("yours")
	b.do(request{Op: "open", Path: held})
	if got := b.do(request{Op: "pread", Path: held}); string(got.Data) != yours {
		t.Fatalf("pread: %+v", got)
	}

	// A new grant, and one that is gone: an open descriptor does not outlive it.
	changed := strings.ReplaceAll(string(configuration), `connections = ["yours"]`,
		`connections = ["mine"]`)
	must(t, os.WriteFile(d.config, []byte(changed), 0o600))
	d.reload("connfs: reloaded\n")
	b.reads(d.file("mine"), mine)
	b.fails(held, "EACCES")
	for range 2 {
		if got := b.do(request{Op: "pread", Path: held}); got.Errno != "EACCES" ||
			len(got.Data) > 0 {
			t.Errorf(
				"a read through a descriptor whose grant is gone: %q and %d bytes, want EACCES",
				got.Errno, len(got.Data),
			)
		}
	}
	b.lists(d.mount, []string{"mine.json"})

	// A broken configuration changes nothing.
	for _, broken := range []string{
		changed + "\nnonsense = ", strings.Replace(changed, "ttl", "tll", 1),
		changed + "[[mount]]\npath = \"/elsewhere\"\n", "",
	} {
		must(t, os.WriteFile(d.config, []byte(broken), 0o600))
		if broken == "" {
			must(t, os.Remove(d.config))
		}
		d.reload("not reloaded: the old configuration stays in force")
		a.reads(d.file("mine"), mine)
		b.reads(d.file("mine"), mine)
		b.fails(held, "EACCES")
	}

	// The grant comes back, and the descriptor with it.
	must(t, os.WriteFile(d.config, configuration, 0o600))
	d.reload("connfs: reloaded\n")
	if got := b.do(request{Op: "pread", Path: held}); string(got.Data) != yours {
		t.Errorf("a read after the grant came back: %q and %d bytes", got.Errno, len(got.Data))
	}
	b.fails(d.file("mine"), "EACCES")
}

func TestAuditFileRotates(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	a := as(t, alice)
	a.reads(d.file("mine"), mine)
	before := len(d.auditLines(`"id":"mine"`))
	must(t, os.Rename(d.audit, d.audit+".1"))
	a.reads(d.file("mine"), mine) // still into the renamed file
	d.reload("connfs: reloaded\n")
	a.reads(d.file("mine"), mine)
	after := len(d.auditLines(`"id":"mine"`))
	old, err := os.ReadFile(d.audit + ".1")
	must(t, err)
	if n := strings.Count(string(old), `"id":"mine"`); before != 1 || n != 2 || after != 1 {
		t.Errorf("audit lines: %d before, %d in the old file, %d in the new one; want 1, 2, 1",
			before, n, after)
	}
	st, err := os.Stat(d.audit)
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the audit file has mode %v", st.Mode())
	}
}

func TestStaleMountIsReplaced(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	a := as(t, alice)
	a.reads(d.file("mine"), mine)
	must(t, d.cmd.Process.Kill())
	d.wait()
	// A connection that has just lost its daemon can answer ECONNABORTED once.
	got := a.read(d.file("mine"))
	if got.Errno == "ECONNABORTED" {
		got = a.read(d.file("mine"))
	}
	if got.failure() != "ENOTCONN" || len(got.Data) > 0 {
		t.Errorf("without a daemon: %q and %d bytes, want ENOTCONN", got.failure(), len(got.Data))
	}
	again := d.site.serve()
	a.reads(d.file("mine"), mine)
	if code := again.stop(); code != 0 || mounted(t, d.mount) {
		t.Errorf("exit code %d, mounted: %v", code, mounted(t, d.mount))
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	d, mine, _ := two(t)
	code, printed := d.refused(d.command())
	if code != 8 || !strings.Contains(printed, d.mount+": another connfs serves this mountpoint") {
		t.Errorf("exit code %d: %s", code, printed)
	}
	as(t, alice).reads(d.file("mine"), mine)
}

func TestMountpointsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(s *site) error
		says string
	}{
		{"file", func(s *site) error {
			return os.WriteFile(s.mount, nil, 0o644)
		}, "the mountpoint is a file, not a directory"},
		{"not empty", func(s *site) error {
			return os.MkdirAll(s.mount+"/x", 0o755)
		}, "the mountpoint is not empty"},
		{"symbolic link", func(s *site) error {
			return os.Symlink(s.home, s.mount)
		}, "the mountpoint is a symbolic link"},
		{"dangling link", func(s *site) error {
			return os.Symlink("/nowhere", s.mount)
		}, "the mountpoint is a symbolic link"},
		{"directory of another user", func(s *site) error {
			s.mount = s.home + "/conn"
			return nil
		}, fmt.Sprintf("uid %d owns ", owner)},
		{"link to a directory of another user", func(s *site) error {
			s.mount = s.dir + "/link/conn"
			return os.Symlink(s.home, s.dir+"/link")
		}, fmt.Sprintf("uid %d owns ", owner)},
		{"directory that all can write to", func(s *site) error {
			s.mount = s.dir + "/wide/conn"
			return mkdirMode(s.dir+"/wide", 0o777)
		}, "others than root can write to "},
		{"another user's own in a shared one", func(s *site) error {
			s.mount = s.dir + "/sticky/conn"
			if err := mkdirMode(s.dir+"/sticky", 0o777|os.ModeSticky); err != nil {
				return err
			}
			if err := os.Mkdir(s.mount, 0o755); err != nil {
				return err
			}
			return os.Chown(s.mount, alice, alice)
		}, fmt.Sprintf("uid %d owns it in a directory that all can write to", alice)},
		{"no parent", func(s *site) error {
			s.mount = s.dir + "/missing/conn"
			return nil
		}, "the directory that should hold the mountpoint is not there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.configure("", s.environment()+grant(alice, "*"))
			must(t, c.make(s))
			code, printed := s.refused(s.command())
			if code != 8 || !strings.Contains(printed, s.mount+": ") ||
				!strings.Contains(printed, c.says) {
				t.Errorf("exit code %d: %s; want 8 and %q", code, printed, c.says)
			}
			if mounted(t, s.mount) {
				t.Error("mounted")
			}
		})
	}
}

func mkdirMode(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func TestMountpointIsMade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure("", s.environment("AIRFLOW_CONN_A=http://h")+grant(alice, "*"))
	// root's parent: safe to take over
	must(t, os.Mkdir(s.mount, 0o777), os.Chown(s.mount, alice, alice))
	s.serve()
	as(t, alice).lists(s.mount, []string{"a.json"})
}

func TestMissingDevice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure("", s.environment()+grant(alice, "*"))
	code, printed := s.refused(inNamespace("mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3",
		s.command()))
	if code != 8 || !strings.Contains(printed, "there is no /dev/fuse on this machine") ||
		!strings.Contains(printed, "modprobe fuse") {
		t.Errorf("exit code %d: %s", code, printed)
	}
}
