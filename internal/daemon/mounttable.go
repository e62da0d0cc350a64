package daemon

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountEntry is one line of the mount table: proc_pid_mountinfo(5).
type mountEntry struct {
	id, parent int
	device     string // of the file system: "major:minor"
	root       string // what of the file system is mounted
	point      string // where, as the reader of the table sees it
	fsType     string
}

// ownTable is the table of the mounts that this process sees.
const ownTable = "/proc/self/mountinfo"

// readTable reads a mount table. That asks no file system, so it cannot hang.
func readTable(file string) ([]mountEntry, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	var table []mountEntry
	for line := range strings.Lines(string(text)) {
		if e, ok := parseEntry(line); ok {
			table = append(table, e)
		}
	}
	return table, nil
}

func parseEntry(line string) (mountEntry, bool) {
	mount, super, ok := strings.Cut(line, " - ")
	fields, superFields := strings.Fields(mount), strings.Fields(super)
	if !ok || len(fields) < 6 || len(superFields) < 1 {
		return mountEntry{}, false
	}
	id, err1 := strconv.Atoi(fields[0])
	parent, err2 := strconv.Atoi(fields[1])
	return mountEntry{
		id: id, parent: parent, device: fields[2], root: unescape(fields[3]),
		point: unescape(fields[4]), fsType: unescape(superFields[0]),
	}, err1 == nil && err2 == nil
}

// unescape replaces the mount table's \040 by a blank, and so on.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n := int(s[i+1]-'0')<<6 | int(s[i+2]-'0')<<3 | int(s[i+3]-'0'); n < 256 {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountID is what tells a mount from all others: its id, which the kernel uses again once the
// mount is gone, and the device of its file system, which is there as long as that has a daemon.
type mountID struct {
	id     int
	device string
}

// in returns the entry of the mount in a table.
func (m mountID) in(table []mountEntry) (mountEntry, bool) {
	for _, e := range table {
		if e.id == m.id && e.device == m.device {
			return e, true
		}
	}
	return mountEntry{}, false
}

// place is what a path leads to.
type place struct {
	mount mountID // on which it lies
	top   bool    // it is the root of that mount
}

// lookAt returns what a path leads to, where it is not a link: of mounts on top of each other the
// uppermost. It asks no file system about the last name of the path: a mount without a daemon, or
// whose daemon is stopped, is looked at like any other.
func lookAt(path string) (place, error) { return statPlace(unix.AT_FDCWD, path, 0) }

// placeOf is lookAt for a descriptor.
func placeOf(fd int) (place, error) { return statPlace(fd, "", unix.AT_EMPTY_PATH) }

func statPlace(fd int, path string, flags int) (place, error) {
	flags |= unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	var st unix.Statx_t
	// No field is asked for, so a mount that is another user's alone answers, too.
	if err := unix.Statx(fd, path, flags, 0, &st); err != nil {
		return place{}, err
	}
	return place{
		mount: mountID{int(st.Mnt_id), fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor)},
		top:   st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, nil
}

// on returns the mounts that are mounted on e, or somewhere in it.
func on(table []mountEntry, e mountEntry) []mountEntry {
	var found []mountEntry
	for _, other := range table {
		if other.parent == e.id && other.id != e.id {
			found = append(found, other)
		}
	}
	return found
}

// copies returns the other mounts of the file system of m: binds, which others made.
func copies(table []mountEntry, m mountID) []mountEntry {
	var found []mountEntry
	for _, e := range table {
		if e.device == m.device && e.id != m.id {
			found = append(found, e)
		}
	}
	return found
}
