package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/connfs/connfs/internal/policy"
)

// process is one that reads connections, or one that starts such processes.
type process struct {
	pid  int
	uid  uint32
	user string // its run_as_user; empty: no grant is for this uid
	name string // "comm" of proc(5), since a command line could hold a secret
}

func (p *process) String() string {
	who := fmt.Sprintf("uid %d", p.uid)
	if p.user != "" && p.user[0] != '#' {
		who += " " + p.user
	}
	return fmt.Sprintf("pid %d (%s, %s)", p.pid, p.name, who)
}

// readers returns the processes under proc that run as a granted uid, and the workers of Airflow,
// whose environment and limits their tasks inherit. It leaves out connfs's own processes, and those
// that cannot be read, which may just have ended.
func readers(proc fs.FS, granted []policy.Grant) []process {
	users := make(map[uint32]string)
	for _, g := range granted {
		if g.UID != nil {
			users[*g.UID] = g.RunAsUser
		}
	}
	own, _ := fs.ReadLink(proc, "self/exe")
	var found []process
	pids, _ := fs.Glob(proc, "[0-9]*")
	for _, dir := range pids {
		pid, err := strconv.Atoi(dir)
		if err != nil {
			continue
		}
		exe, err := fs.ReadLink(proc, path.Join(dir, "exe"))
		if err == nil && exe == own || errors.Is(err, fs.ErrNotExist) {
			continue // connfs, or a process of the kernel
		}
		status, _ := fs.ReadFile(proc, path.Join(dir, "status"))
		if errors.Is(err, fs.ErrPermission) && field(string(status), "Name:", 0) == "connfs" {
			continue // connfs, which even its own user cannot look into
		}
		uid, err := strconv.ParseUint(field(string(status), "Uid:", 3), 10, 32)
		if err != nil {
			continue
		}
		user, ok := users[uint32(uid)]
		if !ok {
			line, _ := fs.ReadFile(proc, path.Join(dir, "cmdline"))
			if !startsTasks(string(line)) {
				continue
			}
		}
		found = append(found, process{pid, uint32(uid), user, field(string(status), "Name:", 0)})
	}
	slices.SortFunc(found, func(a, b process) int { return cmp.Compare(a.pid, b.pid) })
	return found
}

// field returns the n-th word after key in the line of text that begins with key, and "" if there
// is no such word.
func field(text, key string, n int) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			if words := strings.Fields(rest); n < len(words) {
				return words[n]
			}
		}
	}
	return ""
}

// startsTasks reports whether a command line is one of Airflow's that start tasks: a worker of any
// executor, the scheduler, which has a local executor, or what runs one task, which is named
// "airflow worker -- ID" in 3.x.
func startsTasks(cmdline string) bool {
	if strings.HasPrefix(cmdline, "[celeryd:") {
		return true
	}
	words := strings.FieldsFunc(cmdline, func(r rune) bool { return r == 0 || r == ' ' })
	for i, word := range words[:min(len(words), 4)] {
		if path.Base(word) == "airflow" && i+1 < len(words) {
			switch words[i+1] {
			case "worker", "celery", "edge", "tasks", "scheduler", "standalone":
				return true
			}
		}
	}
	return false
}
