//go:build integration

package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
