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

// process is one that reads connections, or starts those that do.
type process struct {
	pid  int
	uid  uint32
	user string // its run_as_user, where a grant names one
	name string // comm of proc(5); a command line could hold a secret
}

func (p *process) String() string {
	who := fmt.Sprintf("uid %d", p.uid)
	if p.user != "" && p.user[0] != '#' {
		who += " " + p.user
	}
	return fmt.Sprintf("pid %d (%s, %s)", p.pid, p.name, who)
}

// readers returns the processes under proc that run as a granted uid, or as a worker of
// Airflow, whose environment and limits its tasks inherit. connfs's own are left out. They
// come and go meanwhile, so that what cannot be read is none.
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
		if err == nil && exe == own || errors.Is(err, fs.ErrNotExist) { // the kernel's own have none
			continue
		}
		status, _ := fs.ReadFile(proc, path.Join(dir, "status"))
		if errors.Is(err, fs.ErrPermission) && field(string(status), "Name:", 0) == "connfs" {
			continue // not even their own user may look into them
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

// field returns the n-th word after key, which begins a line of text; empty: there is none.
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

// startsTasks reports whether a command line is that of Airflow where tasks start: the
// worker of any executor, the scheduler with its local one, or the runner of one task,
// which name themselves "airflow worker -- ID" in 3.x.
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
