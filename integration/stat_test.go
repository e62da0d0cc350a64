//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shared serves one connection to alice and bob, and returns the content of its file.
func shared(t *testing.T, keys string) (*daemon, string) {
	t.Helper()
	s := newSite(t)
	text := fileText("http", "h", "for two", "")
	s.configure(keys, s.environment("AIRFLOW_CONN_SHARED="+strings.TrimSpace(text))+
		grant(alice, "shared")+grant(bob, "shared"))
	return s.serve(), text
}

// Some programs do not ask the kernel whether they may read: they look at owner and mode.
func TestProgramsThatLookAtTheOwnerSeeThatTheyMayRead(t *testing.T) {
	t.Parallel()
	d, text := shared(t, "")
	path := d.file("shared")
	for range 2 {
		for _, uid := range []int{alice, bob} {
			as(t, uid).reads(path, text)
			for _, script := range []string{
				`busybox test -r "$1"`,
				`busybox sh -c '[ -r "$1" ] && [ -O "$1" ]' sh "$1"`,
				`perl -e 'exit !(-r $ARGV[0] && -o $ARGV[0] && !-w $ARGV[0])' "$1"`,
				`[ -r "$1" ] && [ -O "$1" ]`,
				`[ "$(ls -l -n "$1" | cut -d " " -f 1,3,4)" = "-r-------- $2 $2" ]`,
				`[ "$(find "$(dirname "$1")" -type f -user "$2" -printf %f)" = shared.json ]`,
			} {
				if _, stderr, code := output(t, uid, "bash", "-c", script, "bash", path,
					fmt.Sprint(uid)); code != 0 {
					t.Errorf("uid %d: %s: exit code %d %s", uid, script, code, stderr)
				}
			}
		}
	}
	if _, _, code := output(t, stranger, "perl", "-e", `exit !!-r $ARGV[0]`, path); code != 0 {
		t.Error("it looks as if a stranger could read")
	}
}

func TestEachReaderAtOnceIsShownAsTheOwner(t *testing.T) {
	t.Parallel()
	for keys, owners := range map[string][2]int{"": {alice, bob}, "share_names = true": {0, 0}} {
		d, _ := shared(t, keys)
		one, two := as(t, alice), as(t, bob)
		const n = 2000
		one.send(request{Op: "owners", Path: d.file("shared"), N: n})
		two.send(request{Op: "owners", Path: d.file("shared"), N: n})
		for i, r := range []*reader{one, two} {
			got := r.receive(patience)
			if got.failure() != "" || got.Counts[fmt.Sprint(owners[i])] != n {
				t.Errorf("%q: %s, owners %v, want %d alone", keys, got.failure(), got.Counts,
					owners[i])
			}
		}
	}
}

// The kernel tells everybody what it keeps, without a question to the daemon.
func TestTheKernelKeepsNothingThatAReaderWasTold(t *testing.T) {
	t.Parallel()
	d, text := shared(t, "")
	path, out := d.file("shared"), as(t, stranger)
	first := out.do(request{Op: "known", Path: path})
	a := as(t, alice)
	a.reads(path, text)
	a.lists(d.mount, []string{"shared.json"})
	says(t, alice, "ls", "-l", d.mount) // asks for entries with attributes
	if got := a.do(request{Op: "stat", Path: path}); got.Size != int64(len(text)) {
		t.Errorf("a reader sees the size %d, want %d", got.Size, len(text))
	}
	then := out.do(request{Op: "known", Path: path})
	if first.failure() != "" || then.failure() != "" || first.Size != then.Size ||
		then.UID != 0 || then.Size == int64(len(text)) {
		t.Errorf("a stranger sees %+v, and before it was %+v", then, first)
	}
	if got := a.do(request{Op: "seek", Path: path}); got.Size != int64(len(text)) {
		t.Errorf("lseek finds the end at %d, want %d", got.Size, len(text))
	}
}

// A lease for writing holds up everybody else who opens the file.
func TestNoReaderTakesALease(t *testing.T) {
	t.Parallel()
	d, _ := shared(t, "")
	path, a := d.file("shared"), as(t, alice)
	for _, q := range []request{{Op: "open", Path: path}, {Op: "stat", Path: path}} {
		if got := a.do(q); got.failure() != "" {
			t.Fatalf("%s: %s", q.Op, got.failure())
		}
	}
	if got := a.do(request{Op: "lease", Path: path}); got.Errno != "EACCES" {
		t.Errorf("a lease: %q, want EACCES", got.failure())
	}
}

// make and cp -u look at the time of a file only.
func TestProgramsThatLookAtTheTimeSeeARotationAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, other := fileText("http", "h", "one", ""), fileText("http", "h", "other", "")
	serve := func(text string) string {
		return s.environment("AIRFLOW_CONN_A=" + strings.TrimSpace(text))
	}
	s.configure("ttl = \"200ms\"\nepoch = \"200ms\"", serve(one)+grant(alice, "a")+grant(bob, "a"))
	d, b := s.serve(), as(t, bob)
	work := filepath.Join(s.dir, "work")
	rules := "out: " + d.file("a") + "\n\t@cat $< >out\n\t@echo built\n"
	must(t, os.Mkdir(work, 0o700), os.Chown(work, alice, alice),
		os.WriteFile(filepath.Join(work, "Makefile"), []byte(rules), 0o644))
	// builds runs make and cp -u, and reports whether they did anything.
	builds := func(want bool, text string) {
		t.Helper()
		built := strings.Contains(says(t, alice, "make", "-C", work), "built")
		copied := says(t, alice, "cp", "-u", "-f", "-v", d.file("a"), work+"/copy") != ""
		if built != want || copied != want {
			t.Errorf("make built: %v, cp -u copied: %v; want %v", built, copied, want)
		}
		for _, name := range []string{"out", "copy"} {
			got, err := os.ReadFile(filepath.Join(work, name))
			if string(got) != text || err != nil {
				t.Errorf("%s: %q, %v; want %q", name, got, err, text)
			}
		}
	}
	builds(true, one)
	builds(false, one)
	for range 2 {
		before := len(d.auditLines(`"op":"open"`, `"cached":false`))
		eventually(t, "the content is fetched again", func() bool {
			b.reads(d.file("a"), one)
			return len(d.auditLines(`"op":"open"`, `"cached":false`)) > before
		})
		builds(false, one)
	}
	serve(other)
	eventually(t, "the rotation is known", func() bool {
		return string(b.read(d.file("a")).Data) == other
	})
	builds(true, other)
	builds(false, other)
	d.reload("connfs: reloaded")
	builds(false, other)
	b.reads(d.file("a"), other)
	builds(false, other)
}

func TestProgramsOf32BitsSeeFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var variables, want []string
	for i := range 20 {
		variables = append(variables, fmt.Sprintf("AIRFLOW_CONN_A%d=http://h", i))
		want = append(want, fmt.Sprintf("a%d.json", i))
	}
	s.configure("", s.environment(variables...)+grant(alice, "*"))
	d := s.serve()
	program := probe(t, "stat32", "-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pie",
		"-no-pie", "-fno-stack-protector")
	for _, name := range want {
		path := d.mount + "/" + name
		seen := says(t, alice, program, path, d.mount)
		var st unix.Stat_t
		_, err := fmt.Sscanf(says(t, alice, "stat", "-c", "%i", path), "%d", &st.Ino)
		must(t, err)
		entry := fmt.Sprintf("entry %d %s\n", st.Ino, name)
		if !strings.HasPrefix(seen, fmt.Sprintf("stat 0 %d\n", st.Ino)) ||
			!strings.Contains(seen, entry) || strings.Count(seen, "entry ") != len(want)+2 ||
			!strings.HasSuffix(seen, "getdents 0\n") {
			t.Errorf("%s, inode %d: a 32-bit program sees:\n%s", name, st.Ino, seen)
		}
	}
}
