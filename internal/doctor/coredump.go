package doctor

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkCores examines what a crash leaves behind. connfs's own processes leave nothing, since the
// kernel never dumps what is not dumpable. A task is an ordinary process, whose dump holds what it
// has read. dumpable and limit are those of this process.
func (r *report) checkCores(proc fs.FS, dumpable bool, limit uint64, tasks []process) {
	const subject = "core dumps"
	if dumpable || limit > 0 {
		r.fail(subject, "connfs turns core dumps off when it starts: find what turns them on again",
			"a crash of connfs would write secrets to a core dump")
	} else {
		r.ok(subject, "connfs leaves none: its processes are not dumpable, whatever "+
			"kernel.core_pattern says")
	}
	text, err := fs.ReadFile(proc, "sys/kernel/core_pattern")
	if err != nil {
		r.warn(subject, "", "where the dump of a task that crashes would go is not known: "+
			"kernel.core_pattern cannot be read")
		return
	}
	pattern := strings.TrimSpace(string(text))
	if to, ok := receiver(pattern); ok {
		if base := path.Base(to); base == "false" || base == "true" {
			r.ok(subject,
				"a task that crashes leaves none: kernel.core_pattern sends its dump to %s", to)
			return
		}
		r.warn(subject, "make sure that nothing is kept there: Storage=none in coredump.conf(5), "+
			"or kernel.core_pattern=|/bin/false", "the dump of a task that crashes, with what the "+
			"task has read, goes to %s, whatever its RLIMIT_CORE is", to)
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
		r.warn(subject, "LimitCORE=0 for the worker", "a task that crashes writes what it has "+
			"read to a file (kernel.core_pattern %q), unless RLIMIT_CORE is 0, which it is not "+
			"for %s", pattern, first(writers))
	case len(tasks) == 0:
		r.ok(subject, "kernel.core_pattern names a file (%q), and no task or worker runs now "+
			"whose RLIMIT_CORE could be checked", pattern)
	default:
		r.ok(subject, "a task that crashes leaves none: RLIMIT_CORE is 0 for every reader and "+
			"worker that runs now (%d of them)", len(tasks))
	}
}

// receiver returns the program or socket to which the kernel sends dumps, where a pattern of
// core(5) names one. Any other pattern names a file.
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

// coreLimit returns the soft RLIMIT_CORE of a process as /proc writes it, and "" if that cannot be
// read.
func coreLimit(proc fs.FS, pid int) string {
	text, _ := fs.ReadFile(proc, path.Join(strconv.Itoa(pid), "limits"))
	return field(string(text), "Max core file size", 0)
}

// ownCores returns whether this process is dumpable, and its soft RLIMIT_CORE. The daemon and its
// children set both first of all, as this command did.
func ownCores() (dumpable bool, limit uint64) {
	state, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &r) != nil {
		r.Cur = unix.RLIM_INFINITY
	}
	return err != nil || state != 0, r.Cur
}
