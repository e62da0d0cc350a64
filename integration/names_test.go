//go:build integration

package integration_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// invented is how many names are looked up below: more than the tree has room for.
const invented = 140_000

// invent has uid look names up that begin with prefix.
func (d *daemon) invent(uid int, prefix string) {
	d.t.Helper()
	got := says(d.t, uid, probe(d.t, "invent"), "8", strconv.Itoa(invented), d.mount+"/"+prefix)
	if got != fmt.Sprintln(invented) {
		d.t.Fatalf("uid %d invented %s of %d names", uid, strings.TrimSpace(got), invented)
	}
}

// bind mounts a file elsewhere, as a container runtime does, and returns the place.
func (d *daemon) bind(name string) string {
	d.t.Helper()
	to := filepath.Join(d.dir, "bound-"+name)
	says(d.t, 0, "touch", to)
	says(d.t, 0, "mount", "-o", "bind,ro", d.file(name), to)
	d.t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
	return to
}

// Names cost nothing, so one user can look up any number of them. Nobody else may lose an open
// file by that, or a file that is mounted elsewhere, which the kernel cannot look up again.
func TestInventedNamesCostNobodyElse(t *testing.T) {
	s := newSite(t)
	var variables, texts []string
	for i := range 4 {
		texts = append(texts, fileText("http", fmt.Sprintf("m%d.example", i), "made-up", ""))
		variables = append(variables,
			fmt.Sprintf("AIRFLOW_CONN_M%d=%s", i, strings.TrimSpace(texts[i])))
	}
	s.configure(`ttl = "0s"`, s.environment(variables...)+grant(alice, "m*")+grant(bob, "b*"))
	d := s.serve()
	a, x := as(t, alice), as(t, stranger)

	// What alice holds, and what is mounted elsewhere: for her, and by a path that she uses.
	if got := a.do(request{Op: "open", Path: d.file("m0")}); got.failure() != "" {
		t.Fatal(got.failure())
	}
	bound, used := d.bind("m1"), d.bind("m2")
	a.reads(used, texts[2])
	// m3 is in the kernel's cache because the stranger asked for it.
	x.fails(d.file("m3"), "EACCES")
	first := d.bind("m3")
	for _, name := range []string{"m0", "m1", "m-invented", "other"} {
		if got := x.do(request{Op: "opath", Path: d.file(name)}); got.failure() != "" {
			t.Fatal(got.failure())
		}
	}

	check := func(who string) {
		t.Helper()
		if got := a.do(request{Op: "pread", Path: d.file("m0")}); string(got.Data) != texts[0] {
			t.Errorf("after %s: an open file: %q and %d bytes", who, got.failure(), len(got.Data))
		}
		a.reads(bound, texts[1])
		a.reads(used, texts[2])
		a.reads(d.file("m3"), texts[3])
		// Whatever the tree has forgotten, it tells the stranger nothing.
		for _, name := range []string{"m0", "m1", "m-invented", "other"} {
			for _, op := range []string{"fstat", "reopen"} {
				if got := x.do(request{Op: op, Path: d.file(name)}); got.failure() != "EACCES" {
					t.Errorf("after %s: the stranger's %s of %s: %q, want EACCES", who, op, name,
						got.failure())
				}
			}
			x.fails(d.file(name), "EACCES")
		}
	}
	before := residentProcess(t, d.cmd.Process.Pid)
	d.invent(stranger, "m_")
	grown := residentProcess(t, d.cmd.Process.Pid) - before
	if grown > 24<<10 {
		t.Errorf("the daemon grew by %d KiB", grown)
	}
	check("a stranger's flood")
	d.invent(0, "m_of_root_")
	check("root's")
	d.invent(bob, "b_")
	check("a granted user's")
	t.Logf("%d KiB; after %d names of a stranger %d more, and after as many of root's and of a "+
		"granted user's %d more", before, invented, grown,
		residentProcess(t, d.cmd.Process.Pid)-before)

	// What others had looked up is found by what is listed.
	a.do(request{Op: "list", Path: d.mount})
	a.reads(first, texts[3])
}

// rewinddir(3) shows what is new, also to who keeps a directory open for ever.
func TestARewoundDirectoryShowsNewNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	text := strings.TrimSpace(fileText("http", "h.example", "made-up", ""))
	s.configure("", s.environment("AIRFLOW_CONN_M0="+text)+grant(alice, "m*"))
	d, a := s.serve(), as(t, alice)
	if got := a.do(request{Op: "open", Path: d.mount}); got.failure() != "" {
		t.Fatal(got.failure())
	}
	names := func() string {
		t.Helper()
		got := a.do(request{Op: "relist", Path: d.mount})
		if got.failure() != "" {
			t.Fatal(got.failure())
		}
		return strings.Join(got.Names, " ")
	}
	if got := names(); got != "m0.json" {
		t.Errorf("listed: %q", got)
	}
	s.environment("AIRFLOW_CONN_M1=" + text)
	eventually(t, "the new name is shown, and not the old one", func() bool {
		return names() == "m1.json"
	})
}
