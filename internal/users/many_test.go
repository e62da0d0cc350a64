package users_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/internal/users"
)

// manyScript is a getent for any number of keys. It knows u1 to u999, Bob and BOB as bob, and root,
// and notes each of its calls. What stands in FAULT is done for each key first.
const manyScript = `echo "$*" >> CALLS
[ "$1" = passwd ] || exit 1
shift
rc=0
for key; do
	FAULT
	case $key in
	u[1-9]|u[1-9][0-9]|u[1-9][0-9][0-9]) echo "$key:x:${key#u}:100::/:" ;;
	Bob|BOB|bob) echo 'bob:x:7000:100::/:' ;;
	root|0) echo 'root:x:0:0::/root:' ;;
	*) rc=2; MISSING ;;
	esac
done
exit $rc
`

// manyDirectory returns a directory with that getent, and how many times it was called.
func manyDirectory(t *testing.T, fault, missing string) (*users.Directory, func() int) {
	calls := filepath.Join(t.TempDir(), "calls")
	text := strings.NewReplacer("CALLS", calls, "FAULT", fault, "MISSING", missing).
		Replace(manyScript)
	d := &users.Directory{Getent: script(t, text), Timeout: 20 * time.Second}
	return d, func() int {
		b, err := os.ReadFile(calls)
		if err != nil {
			return 0
		}
		return strings.Count(string(b), "\n")
	}
}

func TestManyNamesAreFewCalls(t *testing.T) {
	d, calls := manyDirectory(t, ":", ":")
	want := users.Answer{UIDs: map[string]uint32{"bob": 7000, "root": 0}}
	names := []string{"bob", "root"}
	for i := 1; i < 1000; i += 2 {
		name, ghost := fmt.Sprint("u", i), fmt.Sprint("ghost", i)
		names = append(names, name, ghost)
		want.UIDs[name] = uint32(i)
		want.Unknown = append(want.Unknown, ghost)
	}
	got := d.LookupUIDs(context.Background(), names)
	slices.Sort(got.Unknown)
	slices.Sort(want.Unknown)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := calls(); n > 15 {
		t.Errorf("%d calls for %d names", n, len(names))
	}
}

func TestManyNamesOfEveryKind(t *testing.T) {
	const long = "a_name_that_is_very_long"
	for name, c := range map[string]struct{ fault, missing string }{
		"a getent that goes on":                {":", ":"},
		"a getent that stops at what it lacks": {":", "exit 2"},
		"a getent that takes one name only":    {`[ $# -eq 1 ] || exit 3`, ":"},
		"a getent that prints nonsense":        {`[ $# -eq 1 ] || echo nonsense`, ":"},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := manyDirectory(t, c.fault, c.missing)
			names := []string{
				"u1", "ghost", "Bob", "u2", "BOB", "root", "", "-h", "--help", "a:b", "a\nb", "17",
				" 17", "+17", "bob", "a b", "$(reboot)", strings.Repeat(long, 2000), "u3",
			}
			got := d.LookupUIDs(context.Background(), names)
			want := map[string]uint32{
				"u1": 1, "u2": 2, "u3": 3, "Bob": 7000, "BOB": 7000, "bob": 7000, "root": 0,
			}
			if diff := cmp.Diff(want, got.UIDs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(got.Unknown) != len(names)-len(want) || got.Failed != nil || got.Err != nil {
				t.Errorf("unknown %.300q, failed %q, %v", got.Unknown, got.Failed, got.Err)
			}
		})
	}
}

// A name that its server does not answer must not take the others along, and is not unknown.
func TestANameThatIsNotAnsweredDoesNotHarmOthers(t *testing.T) {
	d, _ := manyDirectory(t, `[ "$key" != slow ] || sleep 60`, ":")
	d.Timeout = 2 * time.Second
	got := d.LookupUIDs(context.Background(), []string{"u1", "slow", "ghost", "u2"})
	if diff := cmp.Diff(map[string]uint32{"u1": 1, "u2": 2}, got.UIDs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ghost"}, got.Unknown); diff != "" {
		t.Errorf("unknown (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"slow"}, got.Failed); diff != "" || got.Err == nil {
		t.Errorf("failed with %v (-want +got):\n%s", got.Err, diff)
	}
}

func TestManyNamesWithoutGetent(t *testing.T) {
	d := &users.Directory{Getent: []string{"/nonexistent/getent"}, Timeout: time.Second}
	got := d.LookupUIDs(context.Background(), []string{"root", "no-such-user-of-connfs"})
	want := users.Answer{
		UIDs: map[string]uint32{"root": 0}, Unknown: []string{"no-such-user-of-connfs"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThisMachineLooksManyNamesUp(t *testing.T) {
	got := users.LookupUIDs(context.Background(), []string{"root", "no-such-user-1", "daemon",
		"no-such-user-2"})
	if got.Err != nil || len(got.Unknown) != 2 || len(got.UIDs) != 2 || got.UIDs["root"] != 0 {
		t.Errorf("%+v", got)
	}
}
