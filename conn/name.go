package conn

import (
	"strings"

	"github.com/connfs/connfs/internal/python"
)

// MaxFileName is the length of the longest file name in bytes: the kernel's limit for
// FUSE.
const MaxFileName = 1024

const (
	fileSuffix = ".json"
	upperHex   = "0123456789ABCDEF"
)

// EnvName returns the environment variable of a connection: AIRFLOW_CONN_ and
// the id in upper case, by Python's rules ("ß" becomes "SS"). Ids that differ
// only in case share a variable. "." and "-" stay, so that a shell cannot set every
// variable.
func EnvName(id string) string { return "AIRFLOW_CONN_" + python.Upper(id) }

// FileName returns the name of the file of a connection: the id, in which "%",
// "/", control bytes and a leading "." are written as %XX, and ".json". It returns
// false if the connection has no file: for the empty id, and for a name over
// [MaxFileName].
func FileName(id string) (string, bool) {
	if id == "" {
		return "", false
	}
	b := make([]byte, 0, len(id)+len(fileSuffix))
	for i, c := range []byte(id) {
		if escaped(c, i == 0) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	b = append(b, fileSuffix...)
	if len(b) > MaxFileName {
		return "", false
	}
	return string(b), true
}

// IDFromFileName returns the id whose file has this name: the one for which
// [FileName] returns it. The error is NoSuchName if that is no id, and NameTooLong for
// a name over [MaxFileName]. Names that begin with "." belong to no id, but to the
// filesystem itself.
func IDFromFileName(name string) (string, error) {
	if len(name) > MaxFileName {
		return "", Errorf(NameTooLong, "", "a name has at most %d bytes", MaxFileName)
	}
	escapedID, ok := strings.CutSuffix(name, fileSuffix)
	if !ok || escapedID == "" {
		return "", errNoSuchName()
	}
	b := make([]byte, 0, len(escapedID))
	for i := 0; i < len(escapedID); i++ {
		c, first := escapedID[i], i == 0
		if c != '%' {
			if escaped(c, first) {
				return "", errNoSuchName()
			}
			b = append(b, c)
			continue
		}
		if i+2 >= len(escapedID) {
			return "", errNoSuchName()
		}
		high := strings.IndexByte(upperHex, escapedID[i+1])
		low := strings.IndexByte(upperHex, escapedID[i+2])
		if high < 0 || low < 0 {
			return "", errNoSuchName()
		}
		if c = byte(high<<4 | low); !escaped(c, first) {
			return "", errNoSuchName()
		}
		b = append(b, c)
		i += 2
	}
	return string(b), nil
}

func errNoSuchName() error { return Errorf(NoSuchName, "", "no id has this file name") }

// escaped reports whether a byte of an id is written as %XX in the file name.
func escaped(c byte, first bool) bool {
	return c == '%' || c == '/' || c < ' ' || c == 0x7F || c == '.' && first
}
