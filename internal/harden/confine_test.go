package harden

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// placeVariable names the directory in which the role "try" writes. Beside it lies the file
// "others", which it must not be able to change, and a number of a process outside is in "pid".
const placeVariable = "CONNFS_TEST_PLACE"

// call makes a system call with these arguments, none of which would do harm if it were allowed.
func call(number uintptr, arguments ...uintptr) func() error {
	arguments = append(arguments, 0, 0, 0, 0, 0, 0)
	return func() error {
		_, _, errno := unix.Syscall6(number, arguments[0], arguments[1], arguments[2],
			arguments[3], arguments[4], arguments[5])
		if errno == 0 {
			return nil
		}
		return errno
	}
}

// attempt is something that a confined process tries, and what comes of it.
type attempt struct {
	name string
	want string // errno; "": it works
	do   func() error
}

const (
	ptraceTraceme = 0
	allOnes       = ^uintptr(0)
)

// attempts are what the role "try" tries.
func attempts(place string, writes bool) []attempt {
	others := filepath.Join(filepath.Dir(place), "others")
	inside, outside := "EACCES", "EPERM"
	if writes {
		inside, outside = "", ""
	}
	unseen := "EPERM"
	if os.Geteuid() == 0 {
		unseen = "ESRCH" // in a PID namespace of its own
	}
	number, _ := os.ReadFile(filepath.Join(filepath.Dir(place), "pid"))
	pid, _ := strconv.Atoi(string(number))
	return []attempt{
		{"make a file in the place", inside, func() error {
			return os.WriteFile(filepath.Join(place, "new"), []byte("x"), 0o600)
		}},
		{"make a directory in the place", inside, func() error {
			return os.MkdirAll(filepath.Join(place, "dir"), 0o700)
		}},
		{"make a file elsewhere", "EACCES", func() error {
			return os.WriteFile(others+".new", []byte("x"), 0o600)
		}},
		{"write another's file", "EACCES", func() error {
			return os.WriteFile(others, []byte("x"), 0o600)
		}},
		{"truncate another's file", "EACCES", func() error { return os.Truncate(others, 0) }},
		{"remove another's file", "EACCES", func() error { return unix.Unlink(others) }},
		{"rename another's file", "EACCES", func() error {
			return unix.Rename(others, others+"2")
		}},
		{"make a link", "EACCES", func() error { return unix.Symlink("/", others+".link") }},
		{"read another's file", "", func() error { _, err := os.ReadFile(others); return err }},
		{"change its mode", outside, func() error { return os.Chmod(others, 0o600) }},
		{"change its times", outside, func() error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, others, []unix.Timespec{{}, {}}, 0)
		}},
		{"write to /dev/null", "", func() error {
			return os.WriteFile("/dev/null", []byte("x"), 0)
		}},
		{"signal a process outside", unseen, func() error { return unix.Kill(pid, 0) }},
		{"run a program", "", func() error { return exec.Command("/bin/true").Run() }},
		{"run a program that a shell forks", "", func() error {
			return exec.Command("/bin/sh", "-c", "/bin/true | /bin/true").Run()
		}},
		{"be traced", "EPERM", call(unix.SYS_PTRACE, ptraceTraceme)},
		{"read a process", "EPERM", call(unix.SYS_PROCESS_VM_READV, 1)},
		{"write a process", "EPERM", call(unix.SYS_PROCESS_VM_WRITEV, 1)},
		{"take a descriptor", "EPERM", call(unix.SYS_PIDFD_GETFD, allOnes)},
		{"mount", "EPERM", call(unix.SYS_MOUNT)},
		{"unmount", "EPERM", call(unix.SYS_UMOUNT2)},
		{"open a tree of mounts", "EPERM", call(unix.SYS_OPEN_TREE, allOnes)},
		{"change the root", "EPERM", call(unix.SYS_CHROOT)},
		{"pivot the root", "EPERM", call(unix.SYS_PIVOT_ROOT)},
		{"open by a handle", "EPERM", call(unix.SYS_OPEN_BY_HANDLE_AT, allOnes)},
		{"make a user namespace", "EPERM", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{"enter a namespace", "EPERM", call(unix.SYS_SETNS, allOnes)},
		{"fork into a namespace", "EPERM",
			call(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS)},
		{"fork with flags in memory", "ENOSYS", call(unix.SYS_CLONE3)},
		{"load a BPF program", "EPERM", call(unix.SYS_BPF, 1000)},
		{"use keys", "EPERM", call(unix.SYS_KEYCTL, 1000)},
		{"count events", "EPERM", call(unix.SYS_PERF_EVENT_OPEN)},
		{"handle page faults", "EPERM", call(unix.SYS_USERFAULTFD, allOnes)},
		{"use io_uring", "EPERM", call(unix.SYS_IO_URING_SETUP)},
		{"load a module", "EPERM", call(unix.SYS_FINIT_MODULE, allOnes)},
		{"load a kernel", "EPERM", call(unix.SYS_KEXEC_LOAD, 0, 0, 0, allOnes)},
		{"reboot", "EPERM", call(unix.SYS_REBOOT)},
		{"swap", "EPERM", call(unix.SYS_SWAPON)},
		{"set the clock", "EPERM", call(unix.SYS_CLOCK_SETTIME, allOnes)},
		{"talk to the kernel's ciphers", "EAFNOSUPPORT", func() error {
			_, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
			return err
		}},
		{"make a socket", "", func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			unix.Close(fd)
			return err
		}},
		{"type on a terminal", "EPERM", call(unix.SYS_IOCTL, 0, unix.TIOCSTI)},
		{"outlive the parent", "EPERM", call(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0)},
		{"die with the parent", "",
			call(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))},
	}
}

// afterForbidding are what the role "try" tries after ForbidPrograms.
var afterForbidding = []attempt{
	{"run a program", "EPERM", func() error { return exec.Command("/bin/true").Run() }},
	{"become a program", "EPERM", func() error {
		return unix.Exec("/bin/true", []string{"true"}, nil)
	}},
	{"fork", "EPERM", call(unix.SYS_CLONE, uintptr(unix.SIGCHLD))},
	{"listen", "EPERM", call(unix.SYS_LISTEN, allOnes)},
	{"make threads", "", func() error { threads(); return nil }},
}

// try tries everything and prints what came of it.
func try(place string) {
	say := func(name string, err error) { fmt.Printf("%s: %s\n", name, errnoName(err)) }
	for _, a := range attempts(place, false) {
		say(a.name, a.do())
	}
	if err := ForbidPrograms(); err != nil {
		fmt.Println(err)
	}
	for _, a := range afterForbidding {
		say("then "+a.name, a.do())
	}
}

func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestConfinedProcessesAreRefusedWhatTheyDoNotNeed(t *testing.T) {
	for _, c := range []struct {
		role   string
		writes bool
	}{
		{"confined", false},
		{"confined, writes", true},
	} {
		t.Run(c.role, func(t *testing.T) {
			dir := t.TempDir()
			place, others := filepath.Join(dir, "place"), filepath.Join(dir, "others")
			for _, err := range []error{
				os.Mkdir(place, 0o700), os.WriteFile(others, []byte("untouched"), 0o600),
				os.WriteFile(filepath.Join(dir, "pid"),
					[]byte(strconv.Itoa(os.Getpid())), 0o600),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv(placeVariable, place)
			out, err := state(t, c.role)
			if err != nil {
				t.Fatal(out, err)
			}
			got, _, _ := strings.Cut(out, parentMark)
			var want strings.Builder
			for _, a := range attempts(place, c.writes) {
				fmt.Fprintf(&want, "%s: %s\n", a.name, a.want)
			}
			for _, a := range afterForbidding {
				fmt.Fprintf(&want, "then %s: %s\n", a.name, a.want)
			}
			if diff := cmp.Diff(strings.Split(want.String(), "\n"),
				strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			text, err := os.ReadFile(others)
			if err != nil || string(text) != "untouched" {
				t.Errorf("another's file holds %q, %v", text, err)
			}
		})
	}
}

func TestAStateTellsOfItsOwnProcess(t *testing.T) {
	if locked() {
		t.Fatal("memory is locked already")
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mlock(page); err != nil {
		t.Fatal(err)
	}
	if !locked() || StateOf().Swap != "locked" {
		t.Errorf("locked memory is not told of: %+v", StateOf())
	}
	if err := unix.Munmap(page); err != nil {
		t.Fatal(err)
	}
	if StateOf().Swap == "locked" {
		t.Error("memory is told to be locked that is not")
	}
	bare := State{}
	if got := len(bare.Missing()); got != 2 || bare.String() != "no_new_privs" {
		t.Errorf("%d things are missing in %q", got, bare)
	}
	full := State{Calls: true, Files: 7, Namespace: true}
	if got := full.Missing(); len(got) != 0 {
		t.Errorf("%q is missing in %q", got, full)
	}
}
