package backend

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/connfs/connfs/conn"
)

// CheckPathID reports why an id must not become part of a path or a URL, as Absent: a
// service, or a library on the way to it, would take such an id for another one.
func CheckPathID(id string) error {
	switch {
	case !utf8.ValidString(id):
		return conn.Errorf(conn.Absent, "", "the id is not UTF-8, and no secret is named so")
	case strings.ContainsAny(id, "\x00\n\r"):
		return conn.Errorf(conn.Absent, "", "the id holds a NUL or a line break, and is not sent")
	case slices.ContainsFunc(strings.Split(id, "/"), pathSegment):
		return conn.Errorf(conn.Absent, "",
			"the id is a path with an empty, \".\" or \"..\" part, and is not sent")
	}
	return nil
}

// pathSegment reports whether a part of a path means something else than a name.
func pathSegment(part string) bool { return part == "" || part == "." || part == ".." }
