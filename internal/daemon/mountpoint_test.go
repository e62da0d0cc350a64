package daemon

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stranger is a uid that is not root's and runs no test.
const stranger = 54321

// own returns what CheckPath says, as root, of directories that the user of the tests made:
// reason where that is root, and otherwise that they are not root's.
func own(reason string) string {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Sprintf("uid %d owns", uid)
	}
	return reason
}

// TestMain makes this binary the one that asks a file system, for which it is executed again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == AskCommand {
		os.Exit(Ask(os.Args[2]))
	}
	os.Exit(m.Run())
}

// prepare is prepareMountpoint for a test that does not mount.
func prepare(path string, root bool) error {
	t, err := prepareMountpoint(path, root)
	if err == nil {
		t.close()
		err = syscall.Close(t.dir)
	}
	return err
}

func wantMountError(t *testing.T, err error, reason string) {
	t.Helper()
	var me *MountError
	switch {
	case reason == "" && err != nil:
		t.Errorf("refused: %v", err)
	case reason != "" && (!errors.As(err, &me) || !strings.Contains(me.Reason, reason)):
		t.Errorf("error %v, want %q", err, reason)
	}
}

func mkdir(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// give makes path a stranger's, where the tests may do that.
func give(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckPathRefusesWhatOthersCouldRedirect(t *testing.T) {
	for name, tc := range map[string]struct {
		make   func(t *testing.T, dir string) string // returns the mountpoint
		root   string                                // the reason as root; empty: accepted
		anyone string                                // as an ordinary user
	}{
		"below root's directories": {
			make: func(t *testing.T, dir string) string { return filepath.Join(dir, "conn") },
			root: own(""),
		},
		"in the root directory": {
			make: func(*testing.T, string) string { return "/connfs-test-that-is-not-there" },
		},
		"without a parent": {
			make:   func(_ *testing.T, dir string) string { return dir + "/no/conn" },
			root:   "should hold the mountpoint is not there: no such file or directory",
			anyone: "should hold the mountpoint is not there: no such file or directory",
		},
		"in a directory that others can write to": {
			make: func(t *testing.T, dir string) string {
				return mkdir(t, dir+"/open", 0o777) + "/conn"
			},
			root: own("others than root can write to"),
		},
		"in a directory that a group can write to": {
			make: func(t *testing.T, dir string) string {
				return mkdir(t, dir+"/open", 0o775) + "/conn"
			},
			root: own("others than root can write to"),
		},
		"far below such a directory": {
			make: func(t *testing.T, dir string) string {
				mkdir(t, dir+"/open", 0o777)
				return filepath.Join(mkdir(t, dir+"/open/a/b", 0o755), "conn")
			},
			root: own("others than root can write to"),
		},
		"in a sticky directory": {
			make: func(t *testing.T, dir string) string {
				mkdir(t, dir+"/sticky/conn", 0o755)
				mkdir(t, dir+"/sticky", 0o777|os.ModeSticky)
				return dir + "/sticky/conn"
			},
			root: own(""),
		},
		"somebody else's in a sticky directory": {
			make: func(t *testing.T, dir string) string {
				give(t, mkdir(t, dir+"/sticky/conn", 0o755))
				mkdir(t, dir+"/sticky", 0o777|os.ModeSticky)
				return dir + "/sticky/conn"
			},
			root: own("could rename it"),
		},
		"in somebody else's directory": {
			make: func(t *testing.T, dir string) string {
				give(t, mkdir(t, dir+"/theirs", 0o755))
				return dir + "/theirs/conn"
			},
			root: own(fmt.Sprintf("uid %d owns", stranger)),
		},
		"through a link into somebody else's directory": {
			make: func(t *testing.T, dir string) string {
				give(t, mkdir(t, dir+"/theirs", 0o755))
				if err := os.Symlink("theirs", dir+"/link"); err != nil {
					t.Fatal(err)
				}
				return dir + "/link/conn"
			},
			root: own(fmt.Sprintf("uid %d owns", stranger)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := tc.make(t, t.TempDir())
			wantMountError(t, CheckPath(path, true), tc.root)
			wantMountError(t, CheckPath(path, false), tc.anyone)
		})
	}
}

func TestPrepareMountpointMakesAnEmptyDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conn")
	for range 2 { // made, and found
		if err := prepare(path, false); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Lstat(path); err != nil || st.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	// Root's is unreadable underneath, so that no reader takes an unmounted one for
	// one without connections; an ordinary user's directories are refused then.
	for _, path := range []string{path, filepath.Join(t.TempDir(), "conn")} {
		err := prepare(path, true)
		wantMountError(t, err, own(""))
		if err != nil {
			continue
		}
		st, err := os.Lstat(path)
		if err != nil || st.Mode() != os.ModeDir || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	}
}

func TestPrepareMountpointRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir+"/empty", 0o755)
	mkdir(t, dir+"/full/.hidden", 0o755)
	for link, target := range map[string]string{"link": "empty", "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, reason := range map[string]string{
		"file": "is a file, not a directory", "full": "is not empty", "no/conn": "not there",
		"link": "is a symbolic link", "dangling": "is a symbolic link",
	} {
		path := filepath.Join(dir, name)
		wantMountError(t, prepare(path, false), reason)
		if name != "no/conn" {
			reason = own(reason)
		}
		wantMountError(t, prepare(path, true), reason)
	}
	if _, err := os.Lstat(dir + "/nowhere"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error("the target of a link was made")
	}
}

func TestMountErrorsAreOneSentence(t *testing.T) {
	for _, tc := range []struct {
		err  MountError
		want string
	}{
		{MountError{"/conn", "it is gone", ""}, "/conn: it is gone"},
		{MountError{"/conn", "it is gone", "look for it"}, "/conn: it is gone (look for it)"},
		{MountError{"", "it is gone", ""}, "it is gone"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestUnescapeReadsTheMountTable(t *testing.T) {
	for in, want := range map[string]string{
		"/conn": "/conn", `/a\040b`: "/a b", `\134`: `\`, `/a\011\012`: "/a\t\n", `\303\244`: "ä",
		`/a\04`: `/a\04`, `a\`: `a\`, `\999`: `\999`, `\xyz`: `\xyz`, `\777`: `\777`, "": "",
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNoMountOfConnfsIsFoundWhereThereIsNone(t *testing.T) {
	for _, path := range []string{"/", "/proc", t.TempDir()} {
		if found, err := Occupied(path, false); found != Free || err != nil {
			t.Errorf("%s: %v, %v", path, found, err)
		}
		if err := clearStale(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAllowsOtherReadsFuseConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fuse.conf")
	for text, want := range map[string]bool{
		"user_allow_other\n": true, "user_allow_other": true,
		"mount_max = 5\n  user_allow_other \n": true,
		"#user_allow_other\n":                  false, "user_allow_others\n": false, "": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := allowsOther(path); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if allowsOther(path + ".missing") {
		t.Error("a missing file allows it")
	}
}
