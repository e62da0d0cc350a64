package audit

import (
	"os"
	"strconv"
	"strings"
)

// exe returns the path of the program that pid runs, empty where it cannot be seen.
func exe(pid uint32) string {
	if pid == 0 {
		return ""
	}
	path, err := os.Readlink("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/exe")
	if err != nil {
		return ""
	}
	return path
}

// cgroup returns the path of pid's control group, empty where it cannot be seen.
func cgroup(pid uint32) string {
	if pid == 0 {
		return ""
	}
	text, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}
