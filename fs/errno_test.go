package fs

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/connfs/connfs/conn"
)

func TestEveryKindHasTheErrnoOfTheContract(t *testing.T) {
	want := map[conn.Kind]string{
		conn.Failed: "EIO", conn.Absent: "ENOENT", conn.Denied: "EACCES", conn.Unreachable: "EIO",
		conn.Timeout:     "ETIMEDOUT",
		conn.KeyRejected: "EKEYREJECTED", conn.Invalid: "EBADMSG", conn.NotGranted: "EACCES",
		conn.Interrupted: "EINTR",
		conn.PageRead:    "EINVAL", conn.Changed: "ESTALE", conn.TooLarge: "EFBIG",
		conn.NoSlot:      "EAGAIN",
		conn.NameTooLong: "ENAMETOOLONG", conn.NoSuchName: "ENOENT",
	}
	kinds := 0
	for k := conn.Kind(0); !strings.HasPrefix(k.String(), "kind("); k++ {
		kinds++
		if _, ok := errnos[k]; !ok {
			t.Errorf("kind %q is not in the table", k)
		}
		if got := ErrnoName(fmt.Errorf("reading: %w", conn.Errorf(k, "x", "y"))); got != want[k] {
			t.Errorf("kind %q is %s, want %s", k, got, want[k])
		}
	}
	if kinds != len(want) || kinds != len(errnos) {
		t.Errorf("%d kinds, %d expected, %d in the table", kinds, len(want), len(errnos))
	}
	for k, e := range errnos {
		if e == syscall.ENOSYS || e == 0 {
			t.Errorf("kind %q is %v", k, e)
		}
	}
}

func TestWhatNobodyClassifiedIsEIO(t *testing.T) {
	for _, err := range []error{
		errors.New("x"), syscall.ENOSYS, conn.Errorf(200, "", "a kind of tomorrow"),
	} {
		if got := Errno(err); got != syscall.EIO {
			t.Errorf("%v is %v", err, got)
		}
	}
	if Errno(nil) != 0 || ErrnoName(nil) != "" {
		t.Error("success has an error number")
	}
}
