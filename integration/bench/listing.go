package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Targets for 100,000 ids.
const (
	targetNames = 500 * time.Millisecond // ls -f
	targetLong  = time.Second            // ls -l with share_names
)

// listing measures ls of many ids, beside floorfs and a directory of tmpfs with as many
// files. The first run has the kernel look every name up and, at connfs, the backend list
// its ids; so does every run that comes when the last listing is no longer fresh.
func listing(b *bench) {
	metastore := sqliteMetastore(b.sqlite("list", b.ids))
	files := strconv.Itoa(b.ids)
	plain := b.tmpfs(b.ids)
	named := func(d *daemon) string { return d.mount }
	places := []struct{ name, dir, quick, long string }{
		{"tmpfs", plain, "", ""},
		{"floorfs", named(b.floor("floorfs", "-files", files)), "", ""},
		{
			"floorfs, attributes kept 1 s",
			named(b.floor("floorfs-attr", "-files", files, "-attr-timeout", "1s")), "", "",
		},
		{"connfs", named(b.connfsWith("list", "c0", auditFile, metastore)), "yes", ""},
		{
			"connfs, share_names",
			named(b.connfsWith("list-shared", "c0", auditFile, "share_names = true", metastore)),
			"yes", "yes",
		},
	}
	rounds := min(b.rounds, 4)
	times := make(map[string][]time.Duration)
	for range rounds {
		for _, p := range places {
			for _, flags := range []string{"-f", "-l"} {
				key := p.name + flags
				times[key] = append(times[key], b.ls(flags, p.dir))
			}
		}
	}
	var out [][]string
	for _, p := range places {
		for _, flags := range []string{"-f", "-l"} {
			t := times[p.name+flags]
			target := ""
			switch m := at(t, 0.5).Seconds(); {
			case flags == "-f" && p.quick != "":
				target = met(m, targetNames.Seconds())
			case flags == "-l" && p.long != "":
				target = met(m, targetLong.Seconds())
			}
			out = append(out, []string{p.name, "ls " + flags, fmt.Sprintf("%.2f",
				t[0].Seconds()), fmt.Sprintf("%.2f", at(t, 0.5).Seconds()),
				ratio(at(t, 0.5), at(times["floorfs"+flags], 0.5)), target})
		}
	}
	fmt.Printf("%d ids; first run, and median of %d, in seconds.\n\n", b.ids, rounds)
	table([]string{"", "command", "first", "median", "median / floorfs", "target, s"}, out)
}

// ls runs ls as the reader, and drops its output.
func (b *bench) ls(flags, dir string) time.Duration {
	cmd := exec.Command("ls", flags, dir)
	cmd.SysProcAttr, cmd.Stderr = asReader(), os.Stderr
	began := time.Now()
	b.must(cmd.Run())
	return time.Since(began)
}

// tmpfs makes a directory of n small files in memory.
func (b *bench) tmpfs(n int) string {
	dir := filepath.Join(b.dir, "tmpfs")
	b.must(os.Mkdir(dir, 0o755))
	b.output("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", dir)
	b.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	for i := range n {
		b.must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("c%d.json", i)), []byte("x"), 0o444))
	}
	return dir
}
