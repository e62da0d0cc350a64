package trust_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/connfs/connfs/internal/trust"
)

const (
	ours   = 5001 // beside root
	theirs = 5002
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

// tree makes directories, files and links: "d/" is a directory, "d/f" a file, and "l=d/f" a link.
// A mode may stand behind: "d/ 1777".
func tree(t *testing.T, entries map[string]fs.FileMode) string {
	t.Helper()
	top := t.TempDir()
	for _, links := range []bool{false, true} {
		for entry, mode := range entries {
			name, target, link := strings.Cut(entry, "=")
			path := filepath.Join(top, name)
			var err error
			switch {
			case link != links:
				continue
			case link:
				err = os.Symlink(strings.ReplaceAll(target, "TOP", top), path)
			case strings.HasSuffix(name, "/"):
				err = errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, mode))
			default:
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
					os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, mode))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return top
}

func TestWhatSomebodyElseCouldChangeIsRefused(t *testing.T) {
	const sticky, plain = fs.ModeSticky, fs.FileMode(0o644)
	for name, c := range map[string]struct {
		tree   map[string]fs.FileMode
		open   string
		theirs []string // what belongs to them; all else is root's
		ours   []string
		want   string // what is wrong, "" for nothing: "at: reason"
	}{
		"a file":  {map[string]fs.FileMode{"f": plain}, "f", nil, nil, ""},
		"our own": {map[string]fs.FileMode{"f": 0o600}, "f", nil, []string{"f"}, ""},
		"another's": {map[string]fs.FileMode{"f": plain}, "f", []string{"f"}, nil,
			"f: it belongs to uid 5002"},
		"for a group": {map[string]fs.FileMode{"f": 0o664}, "f", nil, nil,
			"f: its group can write to it"},
		"for all": {map[string]fs.FileMode{"f": 0o646}, "f", nil, nil, "f: others can write to it"},
		"in their home": {map[string]fs.FileMode{"d/e/f": plain}, "d/e/f", []string{"d"}, nil,
			"d: it belongs to uid 5002"},
		"in a shared directory": {map[string]fs.FileMode{"d/": 0o777, "d/f": plain}, "d/f",
			nil, nil,
			"d: others can write to it"},
		"in a group's directory": {map[string]fs.FileMode{"d/": 0o775, "d/f": plain}, "d/f",
			nil, nil,
			"d: its group can write to it"},
		"in a sticky directory": {map[string]fs.FileMode{"d/": 0o777 | sticky, "d/f": plain},
			"d/f", nil, []string{"d/f"}, ""},
		"theirs in a sticky directory": {map[string]fs.FileMode{"d/": 0o777 | sticky, "d/f": plain},
			"d/f", []string{"d/f"}, nil, "d/f: it belongs to uid 5002"},
		"theirs under a sticky directory": {
			map[string]fs.FileMode{"d/": 0o777 | sticky, "d/e/f": plain}, "d/e/f",
			[]string{"d/e"}, nil, "d/e: it belongs to uid 5002"},
		"their sticky directory": {map[string]fs.FileMode{"d/": 0o777 | sticky, "d/f": plain},
			"d/f", []string{"d"}, nil, "d: it belongs to uid 5002"},

		// Links: both where they stand and where they lead.
		"a link": {map[string]fs.FileMode{"f": plain, "l=f": 0}, "l", nil, nil, ""},
		"their link to root's file": {map[string]fs.FileMode{"d/": 0o777 | sticky, "f": plain,
			"d/l=../f": 0}, "d/l", []string{"d/l"}, nil, "d/l: it belongs to uid 5002"},
		"root's link in their directory": {map[string]fs.FileMode{"d/": 0o755, "f": plain,
			"d/l=../f": 0}, "d/l", []string{"d"}, nil, "d: it belongs to uid 5002"},
		"a link to a file of theirs": {map[string]fs.FileMode{"d/f": plain, "l=d/f": 0}, "l",
			[]string{"d/f"}, nil, "d/f: it belongs to uid 5002"},
		"a link through their directory": {map[string]fs.FileMode{"d/e/": 0o755, "f": plain,
			"l=TOP/d/e/../../f": 0}, "l", []string{"d/e"}, nil, "d/e: it belongs to uid 5002"},
		"a link to a directory of theirs": {map[string]fs.FileMode{"d/f": plain, "l=d": 0}, "l/f",
			[]string{"d"}, nil, "d: it belongs to uid 5002"},
		"a link to a link of theirs": {map[string]fs.FileMode{"f": plain, "a=b": 0, "b=f": 0}, "a",
			[]string{"b"}, nil, "b: it belongs to uid 5002"},
		"a path through their directory": {map[string]fs.FileMode{"d/": 0o755, "f": plain},
			"d/../f", []string{"d"}, nil, "d: it belongs to uid 5002"},

		// What is not there is not there, unless they could put it there.
		"nothing": {nil, "f", nil, nil, "no such file or directory"},
		"nothing in their home": {map[string]fs.FileMode{"d/": 0o755}, "d/f", []string{"d"}, nil,
			"d: it belongs to uid 5002"},
		"a link to nothing": {map[string]fs.FileMode{"l=f": 0}, "l", nil, nil,
			"no such file or directory"},
		"a link to itself": {map[string]fs.FileMode{"l=l": 0}, "l", nil, nil,
			"too many levels of symbolic links"},
		"a file as a directory": {map[string]fs.FileMode{"f": plain}, "f/g", nil, nil,
			"not a directory"},
		"a link to a file, as well": {map[string]fs.FileMode{"f": plain, "l=f": 0}, "l/g", nil, nil,
			"not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			top := tree(t, c.tree)
			owners := trust.Owners{UIDs: []uint32{ours}, OwnerOf: func(path string) uint32 {
				for uid, names := range map[uint32][]string{theirs: c.theirs, ours: c.ours} {
					for _, name := range names {
						if path == filepath.Join(top, name) {
							return uid
						}
					}
				}
				return 0
			}}
			path := top + "/" + c.open
			f, err := owners.Open(path, 0)
			if err == nil {
				defer f.Close()
			}
			_, _, err2 := owners.Resolve(path)
			for _, err := range []error{err, err2} {
				if got := problem(err, top); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
			var untrusted *trust.Error
			if got := owners.Check(path); (got != nil) != errors.As(err, &untrusted) {
				t.Errorf("Check: %v", got)
			}
		})
	}
}

// problem returns an error without the path of the file, and without what stands above it.
func problem(err error, top string) string {
	var untrusted *trust.Error
	var path *fs.PathError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &untrusted):
		return strings.TrimPrefix(untrusted.At, top+"/") + ": " + untrusted.Reason
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}

func TestResolvedPathsHaveNoLinks(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{"d/e/f": 0o644, "a=d": 0, "d/b=TOP/a/e": 0})
	real, err := filepath.EvalSymlinks(top)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"d/e/f": "d/e/f", "a/b/f": "d/e/f", "a/./b//f": "d/e/f", "a/b/../e/f": "d/e/f", "a/": "d",
		"a/e/..": "d",
	} {
		got, info, err := trust.Own().Resolve(top + "/" + path)
		if err != nil || got != filepath.Join(real, want) || info == nil {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
	if got, _, err := trust.Own().Resolve("/"); got != "/" || err != nil {
		t.Errorf("the root directory: %s, %v", got, err)
	}
}

func TestLinksThatMustNotBeFollowed(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{"d/f": 0o644, "a=d": 0, "l=d/f": 0})
	if f, err := trust.Own().Open(top+"/a/f", syscall.O_NOFOLLOW); err != nil {
		t.Error("a link above the file:", err)
	} else {
		f.Close()
	}
	if _, err := trust.Own().Open(top+"/l", syscall.O_NOFOLLOW); !errors.Is(err, syscall.ELOOP) {
		t.Error("a link:", err)
	}
	if _, err := trust.Own().Create(top+"/l", os.O_WRONLY, 0o600); !errors.Is(err, syscall.ELOOP) {
		t.Error("a link to write to:", err)
	}
}

func TestFilesAreMadeInDirectoriesOfOursOnly(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{
		"own/": 0o755, "group/": 0o775, "all/": 0o777, "sticky/": 0o777 | fs.ModeSticky,
		"theirs/": 0o755, "sticky/theirs": 0o600, "group/theirs": 0o600, "own/wide": 0o622,
	})
	owners := trust.Owners{OwnerOf: func(path string) uint32 {
		if strings.HasSuffix(path, "theirs") {
			return theirs
		}
		return 0
	}}
	for path, want := range map[string][2]string{ // strictly, and with Loose
		"own/f": {"", ""}, "sticky/f": {"", ""},
		"group/f":  {"group: its group can write to it", ""},
		"all/f":    {"all: others can write to it", "all: others can write to it"},
		"theirs/f": {"theirs: it belongs to uid 5002", "theirs: it belongs to uid 5002"},
		"sticky/theirs": {"sticky/theirs: it belongs to uid 5002",
			"sticky/theirs: it belongs to uid 5002"},
		"group/theirs": {"group: its group can write to it",
			"group/theirs: it belongs to uid 5002"},
		"own/wide": {"own/wide: others can write to it", "own/wide: others can write to it"},
	} {
		for i, o := range []trust.Owners{owners, owners.Loose()} {
			f, err := o.Create(filepath.Join(top, path), os.O_WRONLY|os.O_APPEND, 0o600)
			if got := problem(err, top); got != want[i] {
				t.Errorf("%s, loose %d: %q, want %q", path, i, got, want[i])
			}
			if err == nil {
				f.Close()
			}
		}
	}
	if _, err := os.Stat(top + "/all/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made in a directory of everybody's: %v", err)
	}
}

func TestAStickyDirectoryIsNotOneOfOurOwn(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{
		"sticky/": 0o777 | fs.ModeSticky, "sticky/f": 0o600, "sticky/own/f": 0o600, "l=sticky/f": 0,
	})
	for path, want := range map[string]string{
		"sticky/f": "sticky: others can write to it", "sticky/own/f": "",
		"l": "sticky: others can write to it", "sticky/g": "no such file or directory",
	} {
		_, _, err := trust.Own().Alone().Resolve(filepath.Join(top, path))
		if got := problem(err, top); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// On many systems what a user makes is writable to the group that has the user's name.
func TestAnOrdinaryUsersGroupMayWrite(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{"d/": 0o775, "d/f": 0o664})
	st, err := os.Stat(top + "/d/f")
	if err != nil {
		t.Fatal(err)
	}
	gid := st.Sys().(*syscall.Stat_t).Gid
	if gid == 0 { // the tests run as root
		gid = 5001
		err := errors.Join(os.Chown(top+"/d", -1, 5001), os.Chown(top+"/d/f", -1, 5001))
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		owners trust.Owners
		want   string
	}{
		"the user":       {trust.Process(5001, int(gid)), ""},
		"in other group": {trust.Process(5001, int(gid)+1), "d: its group can write to it"},
		"root":           {trust.Process(0, int(gid)), "d: its group can write to it"},
		"root, for a user": {trust.Process(0, int(gid)).And(5001),
			"d: its group can write to it"},
	} {
		c.owners.OwnerOf = func(string) uint32 { return 0 }
		_, _, err := c.owners.Resolve(top + "/d/f")
		if got := problem(err, top); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{"d/f": 0o666})
	owners := trust.Owners{UIDs: []uint32{ours}, OwnerOf: func(path string) uint32 {
		if path == top+"/d" {
			return theirs
		}
		return 0
	}}
	for _, c := range []struct {
		owners     trust.Owners
		want, hint string
	}{
		{owners, top + "/d/f: somebody else could change it: " + top + "/d: it belongs to uid 5002",
			"it, and every directory above it, must belong to root or uid 5001"},
		{owners.And(theirs),
			top + "/d/f: somebody else could change it: others can write to it",
			"run: chmod go-w " + top + "/d/f"},
	} {
		_, err := c.owners.Open(top+"/d/f", 0)
		var untrusted *trust.Error
		if !errors.As(err, &untrusted) || err.Error() != c.want || untrusted.Hint != c.hint {
			t.Errorf("got %v (%+v), want %s (%s)", err, untrusted, c.want, c.hint)
		}
	}
}

// No descriptor of the way is left open, whatever happened on it.
func TestNoDescriptorIsLeftOpen(t *testing.T) {
	top := tree(t, map[string]fs.FileMode{"d/e/f": 0o644, "d/w/": 0o777, "l=d/e": 0})
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for range 20 {
		for _, path := range []string{"l/f", "l/../w/f", "d/nothing", "d/e/f/g", "l"} {
			if f, err := trust.Own().Open(top+"/"+path, 0); err == nil {
				f.Close()
			}
		}
	}
	if after := count(); after > before+5 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
