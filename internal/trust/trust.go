// Package trust answers whose files this process may obey. A file acts with the rights of whoever
// reads it: so nobody may be able to write it, or to put another one in its place, but root and
// those who could act with these rights themselves.
//
// A path is walked one step at a time, from the root directory, with openat(2). Every directory
// and every symbolic link on the way is judged by what fstat(2) says about the opened step, and
// the file by its own opened descriptor: nothing is looked up twice. What only trusted users can
// change stays what it was, so a path that was judged may be given to a library.
package trust

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Owners are the users whose files are obeyed: root, and some more. The zero value is root alone.
type Owners struct {
	// UIDs are the users beside root.
	UIDs []uint32
	// Group is a group whose members may write to what they can reach: an ordinary user's own.
	// On many systems what such a user makes is writable to that group. 0: no group.
	Group uint32

	// OwnerOf says who owns a step of a path, in place of fstat(2). It is for tests, which need
	// not be root. nil: the kernel's word counts.
	OwnerOf func(path string) uint32

	loose bool // see Loose
	alone bool // see Alone

	anybody bool // see Anybody
}

// Process returns the owners whose files a process of this uid and gid obeys: root alone, where
// root started it, and else root and the user, with the user's group.
func Process(uid, gid int) Owners {
	if uid == 0 {
		return Owners{}
	}
	return Owners{UIDs: []uint32{uint32(uid)}, Group: uint32(gid)}
}

// Anybody returns owners that no file is refused for: for what is not obeyed.
func Anybody() *Owners { return &Owners{anybody: true} }

// And returns the owners with one more user. Root is among them anyway.
func (o Owners) And(uid uint32) Owners {
	if uid != 0 {
		o.UIDs = append(slices.Clone(o.UIDs), uid)
	}
	return o
}

// Loose returns owners that let the group of a directory write to it, as Ubuntu's /var/log lets
// that of its log daemon. Such a group can hide what is there, and put into its place what
// belongs to the owners too. That will do for what is only written, step by step.
func (o Owners) Loose() Owners {
	o.loose = true
	return o
}

// Alone returns owners that must have the directory of a file for themselves: a sticky one, where
// strangers could make files beside it, will not do.
func (o Owners) Alone() Owners {
	o.alone = true
	return o
}

// own is what Set said.
var own atomic.Pointer[Owners]

// Set says whose files this process obeys. It is called at most once in a process of connfs, as
// soon as it knows the user that it runs as, or is going to.
func Set(o Owners) { own.Store(&o) }

// Own returns the owners whose files this process obeys: what [Set] said, or else root and the
// user of the process.
func Own() Owners {
	if o := own.Load(); o != nil {
		return *o
	}
	return Process(os.Geteuid(), os.Getegid())
}

// Error is the error of a file that somebody else could change or replace.
type Error struct {
	Path   string // as it was asked for
	At     string // the step that is wrong: the file itself, or a directory or link above it
	Reason string // "it belongs to uid 1000", "others can write to it"
	Hint   string // what to do about it
}

// Error implements error. The text begins with the path.
func (e *Error) Error() string { return e.Path + ": " + e.Problem() }

// Problem returns the text of the error without the path of the file.
func (e *Error) Problem() string {
	if e.At == e.Path {
		return "somebody else could change it: " + e.Reason
	}
	return fmt.Sprintf("somebody else could change it: %s: %s", e.At, e.Reason)
}

// trusts reports whether the owners count a user among them.
func (o Owners) trusts(uid uint32) bool { return uid == 0 || slices.Contains(o.UIDs, uid) }

// String returns the owners as a sentence names them.
func (o Owners) String() string {
	var b strings.Builder
	b.WriteString("root")
	for _, uid := range o.UIDs {
		b.WriteString(" or uid " + strconv.FormatUint(uint64(uid), 10))
	}
	return b.String()
}

// judge returns why a step is refused; nil where it is not. last says that it is the file itself,
// or its directory where that must be the owners' alone.
func (o Owners) judge(path, at string, st *unix.Stat_t, last bool) error {
	if o.anybody {
		return nil
	}
	uid := st.Uid
	if o.OwnerOf != nil {
		uid = o.OwnerOf(at)
	}
	if !o.trusts(uid) {
		return &Error{
			Path: path, At: at, Reason: fmt.Sprintf("it belongs to uid %d", uid),
			Hint: fmt.Sprintf("it, and every directory above it, must belong to %v", o),
		}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil // a link, whose mode means nothing, or what nobody takes for a file
	}
	dir := kind == unix.S_IFDIR
	// In a sticky directory others cannot rename or remove what is not theirs.
	if dir && st.Mode&unix.S_ISVTX != 0 && !(last && o.alone) {
		return nil
	}
	who := ""
	switch {
	case st.Mode&unix.S_IWOTH != 0:
		who = "others"
	case st.Mode&unix.S_IWGRP == 0, dir && o.loose, o.Group != 0 && st.Gid == o.Group:
		return nil
	default:
		who = "its group"
	}
	return &Error{
		Path: path, At: at, Reason: who + " can write to it", Hint: "run: chmod go-w " + at,
	}
}
