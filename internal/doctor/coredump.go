package doctor

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkCores looks at what a crash leaves behind. connfs's processes leave nothing,
// whatever core_pattern says: the kernel makes no dump of one that is not dumpable. A task
// is an ordinary process, and its dump holds what it has read.
func checkCores(proc fs.FS, dumpable bool, limit uint64, tasks []process, add addFinding) {
	const subject = "core dumps"
	if dumpable || limit > 0 {
		add("fail", subject, "let nothing between the kernel and connfs change its limits", "a crash of connfs would write secrets to a core dump")
	} else {
		add("ok", subject, "", "connfs leaves none: its processes are not dumpable, whatever core_pattern says")
	}
	text, err := fs.ReadFile(proc, "sys/kernel/core_pattern")
	if err != nil {
		add("warn", subject, "", "what becomes of the dump of a task that crashes is not known: kernel.core_pattern cannot be read")
		return
	}
	pattern := strings.TrimSpace(string(text))
	if to, ok := receiver(pattern); ok {
		if base := path.Base(to); base == "false" || base == "true" {
			add("ok", subject, "", "a task that crashes leaves none: kernel.core_pattern hands it to %s", to)
			return
		}
		add("warn", subject, "see that nothing is kept there: Storage=none in coredump.conf(5), or kernel.core_pattern=|/bin/false",
			"a task that crashes is handed to %s with what it has read, and its RLIMIT_CORE does not count there", to)
		return
	}
	var writers []process
	for _, p := range tasks {
		if soft := coreLimit(proc, p.pid); soft != "" && soft != "0" {
			writers = append(writers, p)
		}
	}
	switch {
	case len(writers) > 0:
		add("warn", subject, "LimitCORE=0 for the worker", "a task that crashes writes what it has read to a file (kernel.core_pattern %q): %s may", pattern, first(writers))
	case len(tasks) == 0:
		add("ok", subject, "", "kernel.core_pattern names a file (%q), and no task or worker runs now whose RLIMIT_CORE could be looked at", pattern)
	default:
		add("ok", subject, "", "a task that crashes leaves none: RLIMIT_CORE is 0 for every reader and worker that runs now (%d of them)", len(tasks))
	}
}

// receiver returns the program or socket to which the kernel hands dumps, as core(5) writes
// it; false: it writes files.
func receiver(pattern string) (string, bool) {
	if rest, ok := strings.CutPrefix(pattern, "|"); ok {
		program, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		return program, true
	}
	if strings.HasPrefix(pattern, "@") {
		return "the socket " + strings.TrimLeft(pattern, "@"), true
	}
	return "", false
}

// coreLimit returns the soft RLIMIT_CORE of a process as /proc writes it.
func coreLimit(proc fs.FS, pid int) string {
	text, _ := fs.ReadFile(proc, path.Join(strconv.Itoa(pid), "limits"))
	return field(string(text), "Max core file size", 0)
}

// ownCores returns whether this process is dumpable, and its soft RLIMIT_CORE. Daemon and
// children set both first of all, as this command did.
func ownCores() (dumpable bool, limit uint64) {
	state, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &r) != nil {
		r.Cur = unix.RLIM_INFINITY
	}
	return err != nil || state != 0, r.Cur
}
