package daemon

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/policy"
)

func TestCheckFailsOnUidsThatOthersCanBecome(t *testing.T) {
	const subuid = "dev:100000:65536\n5001:300000:10\n# a comment\nbroken:x:1\nnone:7:0\netl:400000:1\n"
	uid := func(n uint32) *uint32 { return &n }
	var got []string
	checkSubuid([]policy.Grant{
		{RunAsUser: "#99999", UID: uid(99999), Rule: "a:1"},
		{RunAsUser: "#100000", UID: uid(100000), Rule: "a:2"},
		{RunAsUser: "#165535", UID: uid(165535), Rule: "a:3"},
		{RunAsUser: "#165535", UID: uid(165535), Rule: "a:4"},
		{RunAsUser: "#165536", UID: uid(165536), Rule: "a:5"},
		{RunAsUser: "etl", UID: uid(400000), Rule: "a:6"},
		{RunAsUser: "#7", UID: uid(7), Rule: "a:7"},
		{RunAsUser: "ghost", Rule: "a:8"},
	}, subuid, func(level, subject, hint, format string, args ...any) {
		got = append(got, level+" "+fmt.Sprintf(format, args...))
	})
	want := []string{
		"fail uid 100000 (a:2) lies in the subordinate range of the account dev, which can become it",
		"fail uid 165535 (a:3) lies in the subordinate range of the account dev, which can become it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestCheckFindsListenersThatAreAskedBeforeAnOpen(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	proc := fstest.MapFS{
		"1/comm":      file("init\n"),
		"1/fdinfo/3":  file("pos:\t0\nflags:\t02\ninotify wd:1 ino:2 sdev:3 mask:10000 ignored_mask:0\n"),
		"20/comm":     file("watcher\n"),
		"20/fdinfo/4": file("pos:\t0\nfanotify flags:0 event-flags:8000\nfanotify mnt_id:1c mflags:0 mask:3b ignored_mask:0\n"),
		"30/comm":     file("scanner\n"),
		"30/fdinfo/4": file("pos:\t0\nfanotify flags:4 event-flags:8000\nfanotify mnt_id:1c mflags:0 mask:10001 ignored_mask:0\n"),
		"self/comm":   file("x\n"),
	}
	if diff := cmp.Diff([]string{"scanner (pid 30)"}, permissionListeners(proc)); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}
