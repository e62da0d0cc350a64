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

// subordinate is a range of uids that an account may use in its user namespaces
// (subuid(5)): whoever has that account can become any of them.
type subordinate struct {
	account     string
	first, last uint64
}

// parseSubuid reads the lines "account:first:count" of /etc/subuid, and passes over
// what is none.
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
func checkSubuid(granted []policy.Grant, subuid string, add addFinding) {
	ranges := parseSubuid(subuid)
	said := make(map[uint32]bool)
	for _, g := range granted {
		if g.UID == nil || said[*g.UID] {
			continue
		}
		if account, ok := foreignRange(ranges, *g.UID, g.RunAsUser); ok {
			said[*g.UID] = true
			add("fail", "users", "grant a uid outside of every range in /etc/subuid",
				"uid %d (%s) lies in the subordinate range of the account %s, which can become it", *g.UID, g.Rule, account)
		}
	}
}

// fanOpenPerm is FAN_OPEN_PERM of fanotify(7): the listener is asked before each open,
// and mostly opens the file itself, as root.
const fanOpenPerm = 0x10000

// permissionListeners returns the processes under proc that listen for such events.
func permissionListeners(proc fs.FS) []string {
	var found []string
	processes, _ := fs.Glob(proc, "[0-9]*")
	for _, pid := range processes {
		infos, _ := fs.Glob(proc, pid+"/fdinfo/*")
		for _, info := range infos {
			text, err := fs.ReadFile(proc, info)
			if err == nil && asksPermission(string(text)) {
				name, _ := fs.ReadFile(proc, path.Join(pid, "comm"))
				found = append(found, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid))
				break
			}
		}
	}
	return found
}

// asksPermission looks for "fanotify ... mask:10000 ..." in what /proc says of a
// descriptor.
func asksPermission(info string) bool {
	for line := range strings.Lines(info) {
		if !strings.HasPrefix(line, "fanotify ") {
			continue
		}
		for _, field := range strings.Fields(line) {
			hex, ok := strings.CutPrefix(field, "mask:")
			if mask, err := strconv.ParseUint(hex, 16, 64); ok && err == nil && mask&fanOpenPerm != 0 {
				return true
			}
		}
	}
	return false
}

// checkHost looks at what on this machine undoes a policy by uid.
func checkHost(s *session.Session, add addFinding) {
	text, _ := os.ReadFile("/etc/subuid")
	granted, _ := commands.Grants(s, nil, "")
	checkSubuid(granted, string(text), add)
	for _, who := range permissionListeners(os.DirFS("/proc")) {
		add("warn", "fanotify", "exclude the mountpoint there; never grant root instead",
			"%s is asked before files are opened, and where it opens them itself, as root, readers are refused", who)
	}
	if os.Geteuid() == 0 {
		checkConfigPath(s.Options.ConfigFile, add)
	}
	checkReaders(s, granted, add)
}

// checkConfigPath fails where somebody else than root could put another file in the place
// of the configuration: that the file itself is safe is looked at when it is read.
func checkConfigPath(file string, add addFinding) {
	if _, err := os.Stat(file); err != nil {
		return // none, and none is needed
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
	add("fail", "configuration", "keep it below directories that only root can change, such as /etc/connfs", "%s: %s", file, reason)
}

// checkReaders looks at the processes that read connections. Where connfs serves its own
// user alone, there is nobody to keep anything from.
func checkReaders(s *session.Session, granted []policy.Grant, add addFinding) {
	if s.Front.OwnerOnly != nil {
		return
	}
	proc := os.DirFS("/proc")
	tasks := readers(proc, granted)
	dumpable, limit := ownCores()
	checkCores(proc, dumpable, limit, tasks, add)
	checkEnvironments(proc, tasks, strings.Join(os.Environ(), "\x00"), add)
}
