package daemon

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEntryReadsTheMountTable(t *testing.T) {
	for line, want := range map[string]mountEntry{
		"43 27 0:40 / /var/a\\040b ro,nosuid shared:7 master:1 - fuse.connfs connfs ro\n": {
			id: 43, parent: 27, device: "0:40", root: "/", point: "/var/a b", fsType: "fuse.connfs",
		},
		"27 1 254:0 /sub / rw - ext4 /dev/vda rw\n": {
			id: 27, parent: 1, device: "254:0", root: "/sub", point: "/", fsType: "ext4",
		},
		"": {}, "nonsense\n": {}, "43 27 0:40 / /x ro,nosuid\n": {}, "a 1 0:4 / / rw - x y z\n": {},
	} {
		got, ok := parseEntry(line)
		if ok != (want.id != 0) {
			t.Errorf("%q: %v", line, ok)
		} else if ok && got != want {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	}
}

func TestOwnTableHasWhatEveryPathLeadsTo(t *testing.T) {
	table, err := readTable(ownTable)
	if err != nil {
		t.Fatal(err)
	}
	for path, top := range map[string]bool{"/proc": true, "/proc/self": false, t.TempDir(): false} {
		p, err := lookAt(path)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := p.mount.in(table); p.top != top || top && (!ok || e.point != path) {
			t.Errorf("%s: %+v, %+v", path, p, e)
		}
	}
	if _, err := lookAt(t.TempDir() + "/missing"); !os.IsNotExist(err) {
		t.Errorf("a missing path: %v", err)
	}
}

func TestVisibilityIsReadFromTwoTables(t *testing.T) {
	host := []mountEntry{
		{id: 1, device: "0:1", root: "/", point: "/"}, // the initial one, below the real root
		{id: 27, parent: 1, device: "254:0", root: "/", point: "/"},
	}
	ours := mountEntry{id: 99, device: "0:40", root: "/", point: "/conn"}
	inUnit := []mountEntry{{id: 60, device: "254:0", root: "/", point: "/"}, ours}
	inContainer := []mountEntry{{id: 60, device: "0:33", root: "/", point: "/"}, ours}
	onSubvolume := []mountEntry{{id: 60, device: "254:0", root: "/sub", point: "/"}, ours}
	propagated := append(host[:2:2], mountEntry{id: 100, device: "0:40", root: "/", point: "/conn"})
	for _, c := range []struct {
		name        string
		own, theirs []mountEntry
		want        visibility
	}{
		{"the same namespace", append(host[:2:2], ours), append(host[:2:2], ours), visibleOutside},
		{"gone meanwhile", append(host[:2:2], ours), host, visibleOutside},
		{"one's own of a unit", inUnit, host, visibleInUnit},
		{"one's own, and passed on", inUnit, propagated, visibleOutside},
		{"a container among the machine's processes", inContainer, host, visibleInContainer},
		{"another root of the same device", onSubvolume, host, visibleInContainer},
		{"a table without a root", inUnit, nil, visibleOutside},
	} {
		if got := compareTables(c.own, c.theirs, ours.device); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOtherMountsOnAndOfAMount(t *testing.T) {
	m := mountEntry{id: 5, parent: 1, device: "0:9", point: "/conn"}
	top := mountEntry{id: 6, parent: 5, device: "0:10", point: "/conn"}
	inIt := mountEntry{id: 7, parent: 5, device: "0:11", point: "/conn/a.json"}
	bind := mountEntry{id: 8, parent: 1, device: "0:9", point: "/bind"}
	table := []mountEntry{{id: 1, device: "254:0", point: "/"}, m, top, inIt, bind}
	compare := cmp.AllowUnexported(mountEntry{})
	if diff := cmp.Diff([]mountEntry{top, inIt}, on(table, m), compare); diff != "" {
		t.Errorf("on it (-want +got):\n%s", diff)
	}
	id := mountID{5, "0:9"}
	if diff := cmp.Diff([]mountEntry{bind}, copies(table, id), compare); diff != "" {
		t.Errorf("copies of it (-want +got):\n%s", diff)
	}
	if _, ok := (mountID{5, "0:8"}).in(table); ok {
		t.Error("an id that is used again is taken for the same mount")
	}
}
