package stderr_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/connfs/connfs/internal/stderr"
)

func report(lost uint64) []byte { return fmt.Appendf(nil, "lost %d\n", lost) }

// stalledPipe returns a writer to a pipe that is full, and a function that reads what is in the
// pipe after that, line by line.
func stalledPipe(t *testing.T) (w *stderr.Writer, out int, next func() string) {
	t.Helper()
	r, out := pipe(t)
	filler := strings.Repeat("x", 4095) + "\n"
	if err := unix.SetNonblock(out, true); err != nil {
		t.Fatal(err)
	}
	fillers := 0
	for {
		if _, err := unix.Write(out, []byte(filler)); err != nil {
			break
		}
		fillers++
	}
	if err := unix.SetNonblock(out, false); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(r)
	next = func() string {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line != filler {
				return strings.TrimSuffix(line, "\n")
			}
			fillers--
		}
	}
	return stderr.NewWriter(out, report), out, next
}

// pipe returns the ends of a pipe, which t closes.
func pipe(t *testing.T) (r *os.File, out int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r = os.NewFile(uintptr(fds[0]), "pipe")
	t.Cleanup(func() {
		r.Close()
		unix.Close(fds[1])
	})
	return r, fds[1]
}

func TestAPipeThatIsFullHoldsUpNobody(t *testing.T) {
	w, _, next := stalledPipe(t)
	var want []string
	for i := range 3 {
		want = append(want, fmt.Sprint("line ", i))
		fmt.Fprintln(w, want[i])
	}
	if _, _, done := w.TryWrite([]byte("at once\n")); done {
		t.Error("a line was written at once to a pipe that is full")
	}
	w.Flush(time.Millisecond)
	for i, line := range want {
		if got := next(); got != line {
			t.Errorf("line %d is %q", i, got)
		}
	}
	w.Flush(time.Minute)
	if _, err, done := w.TryWrite([]byte("at once\n")); err != nil || !done {
		t.Errorf("a line was not written at once: %v", err)
	}
	if got := next(); got != "at once" {
		t.Errorf("got %q", got)
	}
}

func TestLostLinesAreCountedInTheirPlace(t *testing.T) {
	w, _, next := stalledPipe(t)
	line := func(i int) string { return fmt.Sprintf("%06d%s", i, strings.Repeat(" ", 1017)) }
	const kept = stderr.MaxQueue / 1024
	for i := range kept + 7 {
		fmt.Fprintln(w, line(i))
	}
	for i := range kept {
		if got := next(); got != line(i) {
			t.Fatalf("line %d is %q", i, got)
		}
	}
	if got := next(); got != "lost 7" {
		t.Errorf("in place of the lost lines: %q", got)
	}
	fmt.Fprintln(w, "later")
	if got := next(); got != "later" {
		t.Errorf("after that: %q", got)
	}
}

func TestLinesOfTheAuditAreWholeBesideThoseOfTheLog(t *testing.T) {
	r, out := pipe(t)
	w := stderr.NewWriter(out, report)
	const lines, batches = 2000, 100
	batch := []byte(strings.Repeat(strings.Repeat("a", 99)+"\n", 200)) // more than a write takes
	var group sync.WaitGroup
	group.Go(func() {
		for i := range lines {
			fmt.Fprintf(w, "log %d\n", i)
		}
	})
	group.Go(func() {
		for range batches {
			if n, err := w.WriteWait(batch); n != len(batch) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		}
	})
	got := make(map[string]int)
	next, s := 0, bufio.NewScanner(r)
	for got["audit"] < 200*batches || next < lines {
		if !s.Scan() {
			t.Fatal(s.Err())
		}
		switch line := s.Text(); {
		case line == fmt.Sprint("log ", next):
			next++
		case line == strings.Repeat("a", 99):
			got["audit"]++
		default:
			t.Fatalf("a torn line, or one at the wrong place: %q", line)
		}
	}
	group.Wait()
}

func TestWithoutAReaderLinesAreLostAndNobodyFails(t *testing.T) {
	r, out := pipe(t)
	w := stderr.NewWriter(out, report)
	r.Close()
	for range 3 {
		fmt.Fprintln(w, "line")
		w.Flush(time.Minute)
	}
	if n, err := w.WriteWait([]byte("audit\n")); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A shell that shares its pipe or terminal with a daemon must not find it changed.
func TestTheDescriptorOfOthersStaysAsItIs(t *testing.T) {
	_, out := pipe(t)
	others, err := unix.Dup(out)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(others)
	stderr.NewWriter(out, report)
	var got [2]bool
	for i, fd := range []int{out, others} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = flags&unix.O_NONBLOCK != 0
	}
	if diff := cmp.Diff([2]bool{true, false}, got); diff != "" {
		t.Errorf("own and others' descriptor do not block (-want +got):\n%s", diff)
	}
}

func TestAJournalThatStallsHoldsUpNobody(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(fds[0]), "journal")
	defer r.Close()
	defer unix.Close(fds[1])
	w := stderr.NewWriter(fds[1], report)
	for i := range 20_000 {
		fmt.Fprintf(w, "line %05d %s\n", i, strings.Repeat(" ", 100))
	}
	next, s := 0, bufio.NewScanner(r)
	for next < 20_000 {
		var lost, line int
		if !s.Scan() {
			t.Fatal(s.Err())
		}
		if n, _ := fmt.Sscanf(s.Text(), "lost %d", &lost); n == 1 {
			next += lost
			continue
		}
		if n, _ := fmt.Sscanf(s.Text(), "line %05d", &line); n != 1 || line != next {
			t.Fatalf("line %d is %q", next, s.Text())
		}
		next++
	}
}

// Ctrl-S on a terminal.
func TestATerminalThatIsStoppedHoldsUpNobody(t *testing.T) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(master), "terminal")
	defer r.Close()
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := unix.Open(fmt.Sprint("/dev/pts/", number), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC,
		0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tty)
	const off, on = 0, 1 // TCOOFF and TCOON of tcflow(3)
	if err := unix.IoctlSetInt(tty, unix.TCXONC, off); err != nil {
		t.Fatal(err)
	}
	w := stderr.NewWriter(tty, report)
	for i := range 3 {
		fmt.Fprintln(w, "line", i)
	}
	if _, _, done := w.TryWrite([]byte("at once\n")); done {
		t.Error("a line was written at once to a terminal that is stopped")
	}
	w.Flush(time.Millisecond)
	if err := unix.IoctlSetInt(tty, unix.TCXONC, on); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(r)
	for i := range 3 {
		if want := fmt.Sprint("line ", i); !s.Scan() || s.Text() != want {
			t.Errorf("%q, want %q, %v", s.Text(), want, s.Err())
		}
	}
}
