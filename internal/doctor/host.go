package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/connfs/connfs/internal/commands"
	"github.com/connfs/connfs/internal/daemon"
	"github.com/connfs/connfs/internal/policy"
	"github.com/connfs/connfs/internal/session"
)

// subordinate is a range of uids that an account may use in its user namespaces (subuid(5)).
// Whoever has that account can become any of them.
type subordinate struct {
	account     string
	first, last uint64
}

// parseSubuid reads the lines "account:first:count" of /etc/subuid. It ignores all other lines.
func parseSubuid(text string) []subordinate {
	var ranges []subordinate
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 {
			ranges = append(ranges, subordinate{fields[0], first, first + count - 1})
		}
	}
	return ranges
}

// foreignRange returns the account, other than the uid's own, that can become uid.
func foreignRange(ranges []subordinate, uid uint32, user string) (string, bool) {
	for _, r := range ranges {
		own := r.account == user || r.account == strconv.FormatUint(uint64(uid), 10)
		if !own && r.first <= uint64(uid) && uint64(uid) <= r.last {
			return r.account, true
		}
	}
	return "", false
}

// checkSubuid fails on grants to uids that another account can become.
func (r *report) checkSubuid(granted []policy.Grant, subuid string) {
	ranges := parseSubuid(subuid)
	reported := make(map[uint32]bool)
	for _, g := range granted {
		if g.UID == nil || reported[*g.UID] {
			continue
		}
		if account, ok := foreignRange(ranges, *g.UID, g.RunAsUser); ok {
			reported[*g.UID] = true
			r.fail("users", "grant a uid outside of every range in /etc/subuid",
				"uid %d (%s) is a subordinate uid of the account %s, which can become it",
				*g.UID, g.Rule, account)
		}
	}
}

// fanOpenPerm is FAN_OPEN_PERM of fanotify(7): the kernel asks the listener before each open, and
// most listeners then open the file themselves, as root.
const fanOpenPerm = 0x10000

// permissionListeners returns the processes under proc that the kernel asks before each open.
func permissionListeners(proc fs.FS) []string {
	var found []string
	processes, _ := fs.Glob(proc, "[0-9]*")
	for _, pid := range processes {
		infos, _ := fs.Glob(proc, pid+"/fdinfo/*")
		for _, info := range infos {
			text, err := fs.ReadFile(proc, info)
			if err == nil && asksPermission(string(text)) {
				name, _ := fs.ReadFile(proc, path.Join(pid, "comm"))
				who := strings.TrimSpace(string(name))
				found = append(found, fmt.Sprintf("%s (pid %s)", who, pid))
				break
			}
		}
	}
	return found
}

// asksPermission looks for "fanotify ... mask:10000 ..." in what /proc says of a descriptor.
func asksPermission(info string) bool {
	for line := range strings.Lines(info) {
		if !strings.HasPrefix(line, "fanotify ") {
			continue
		}
		for _, field := range strings.Fields(line) {
			hex, ok := strings.CutPrefix(field, "mask:")
			mask, err := strconv.ParseUint(hex, 16, 64)
			if ok && err == nil && mask&fanOpenPerm != 0 {
				return true
			}
		}
	}
	return false
}

// checkHost looks for what gets around a policy by uid on this machine.
func (r *report) checkHost(s *session.Session) {
	text, _ := os.ReadFile("/etc/subuid")
	granted, _ := commands.Grants(s, nil, "")
	r.checkSubuid(granted, string(text))
	for _, who := range permissionListeners(os.DirFS("/proc")) {
		r.warn("fanotify", "exclude the mountpoint there, and do not grant root instead",
			"the kernel asks %s before a file is opened; where that opens the file itself, as "+
				"root, the reader is refused", who)
	}
	if os.Geteuid() == 0 {
		r.checkConfigPath(s.Options.ConfigFile)
	}
	r.checkReaders(s, granted)
}

// checkConfigPath fails if somebody else than root could replace the configuration file. Whether
// the file itself is safe was checked when it was read.
func (r *report) checkConfigPath(file string) {
	if _, err := os.Stat(file); err != nil {
		return // there is no such file, and none is needed
	}
	path, err := filepath.Abs(file)
	if err == nil {
		err = daemon.CheckPath(path, true)
	}
	if err == nil {
		return
	}
	reason := err.Error()
	var me *daemon.MountError
	if errors.As(err, &me) {
		reason = me.Reason
	}
	r.fail("configuration",
		"keep it below directories that only root can change, such as /etc/connfs",
		"%s: %s", file, reason)
}

// checkReaders examines the processes that read connections, unless connfs serves its own user
// alone.
func (r *report) checkReaders(s *session.Session, granted []policy.Grant) {
	if !s.Front.Others {
		return
	}
	proc := os.DirFS("/proc")
	tasks := readers(proc, granted)
	dumpable, limit := ownCores()
	r.checkCores(proc, dumpable, limit, tasks)
	r.checkEnvironments(proc, tasks, strings.Join(os.Environ(), "\x00"))
}
