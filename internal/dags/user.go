package dags

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxUser = 255   // bytes; Linux knows no longer user name
	nobody  = 65534 // the kernel's uid for users who have no uid on this machine
)

// CheckUser returns the user that a run_as_user names, in the form of [DAG].Users, or the
// reason why it names no user. It follows sudo, to which Airflow passes the name: "#N" is a
// uid, and everything else is a name.
func CheckUser(name string) (user, reason string) {
	if digits, ok := strings.CutPrefix(name, "#"); ok {
		for _, c := range []byte(digits) {
			if c < '0' || c > '9' {
				return "", reasonNotUID // not even a sign
			}
		}
		uid, err := strconv.ParseUint(digits, 10, 32)
		switch {
		case err != nil || uid == 1<<32-1: // -1: "do not change" to the kernel
			return "", reasonNotUID
		case uid == 0 || uid == nobody:
			return "", fmt.Sprintf(reasonNotImplicit, uid)
		}
		return "#" + strconv.FormatUint(uid, 10), ""
	}
	if name == "root" {
		return "", fmt.Sprintf(reasonNotImplicit, 0)
	}
	if !validUser(name) {
		return "", reasonNotUser
	}
	return name, ""
}

// validUser refuses what cannot be the name of a user, and what a program or a reader of a
// log could take for something else. Real names can hold blanks, a backslash, "@" and
// letters of any script.
func validUser(name string) bool {
	if name == "" || len(name) > maxUser || !utf8.ValidString(name) || name == "." ||
		name == ".." || name[0] == '-' || strings.TrimSpace(name) != name ||
		strings.ContainsAny(name, ":/") {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) { // controls, bidirectional marks, other blanks
			return false
		}
	}
	return true
}
