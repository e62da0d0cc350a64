package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/policy"
)

func TestCheckFailsOnUidsThatOthersCanBecome(t *testing.T) {
	const subuid = "dev:100000:65536\n5001:300000:10\n# a comment\nbroken:x:1\nnone:7:0\n" +
		"etl:400000:1\n"
	uid := func(n uint32) *uint32 { return &n }
	var r report
	r.checkSubuid([]policy.Grant{
		{RunAsUser: "#99999", UID: uid(99999), Rule: "a:1"},
		{RunAsUser: "#100000", UID: uid(100000), Rule: "a:2"},
		{RunAsUser: "#165535", UID: uid(165535), Rule: "a:3"},
		{RunAsUser: "#165535", UID: uid(165535), Rule: "a:4"},
		{RunAsUser: "#165536", UID: uid(165536), Rule: "a:5"},
		{RunAsUser: "etl", UID: uid(400000), Rule: "a:6"},
		{RunAsUser: "#7", UID: uid(7), Rule: "a:7"},
		{RunAsUser: "ghost", Rule: "a:8"},
	}, subuid)
	want := []string{
		"fail users: uid 100000 (a:2) is a subordinate uid of the account dev, which can become it",
		"fail users: uid 165535 (a:3) is a subordinate uid of the account dev, which can become it",
	}
	if diff := cmp.Diff(want, r.lines()); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestCheckFindsListenersThatAreAskedBeforeAnOpen(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	proc := fstest.MapFS{
		"1/comm": file("init\n"),
		"1/fdinfo/3": file("pos:\t0\nflags:\t02\n" +
			"inotify wd:1 ino:2 sdev:3 mask:10000 ignored_mask:0\n"),
		"20/comm": file("watcher\n"),
		"20/fdinfo/4": file("pos:\t0\nfanotify flags:0 event-flags:8000\n" +
			"fanotify mnt_id:1c mflags:0 mask:3b ignored_mask:0\n"),
		"30/comm": file("scanner\n"),
		"30/fdinfo/4": file("pos:\t0\nfanotify flags:4 event-flags:8000\n" +
			"fanotify mnt_id:1c mflags:0 mask:10001 ignored_mask:0\n"),
		"self/comm": file("x\n"),
	}
	if diff := cmp.Diff([]string{"scanner (pid 30)"}, permissionListeners(proc)); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}

func TestCheckFailsWhereTheConfigurationCanBeReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("only root makes directories of others: run this as root")
		}
		t.Skip("only root makes directories of others")
	}
	dir := filepath.Join(t.TempDir(), "etc")
	file := filepath.Join(dir, "config.toml")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	wrong := func(who string) []string {
		return []string{fmt.Sprintf("fail configuration: %s: %s %s, and could put something else "+
			"in its place", file, who, dir)}
	}
	for _, c := range []struct {
		name, file string
		uid        int
		mode       os.FileMode
		want       []string
	}{
		{"of root", file, 0, 0o755, nil},
		{"shared, and sticky", file, 0, 0o777 | os.ModeSticky, nil},
		{"no file", filepath.Join(dir, "none.toml"), 0, 0o777, nil},
		{"shared", file, 0, 0o777, wrong("others than root can write to")},
		{"of another", file, 5001, 0o755, wrong("uid 5001 owns")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := errors.Join(os.Chown(dir, c.uid, 0), os.Chmod(dir, c.mode)); err != nil {
				t.Fatal(err)
			}
			var r report
			r.checkConfigPath(c.file)
			if diff := cmp.Diff(c.want, r.lines()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
