package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// step is a directory on the way to a file, opened without any right but to walk on.
type step struct {
	fd   int
	name string // empty: the root directory
}

// walk is the way to a file so far: the directories from the root directory down.
type walk struct {
	owners Owners
	path   string // as it was asked for
	steps  []step
	todo   []string // names that are still ahead
	links  int
}

// Open opens a file for reading, of whatever kind, and judges it and the way to it. flags are
// added to those of open(2); it never waits for a writer. The error is an [*Error] or a
// [*fs.PathError].
func (o Owners) Open(path string, flags int) (*os.File, error) {
	return o.open(path, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
}

// Create opens a file for writing, makes it with the mode if it is not there, and judges it and
// the way to it. flags are those of open(2), os.O_WRONLY for example. A link in its place is not
// followed. The error is that of [Owners.Open].
func (o Owners) Create(path string, flags int, mode fs.FileMode) (*os.File, error) {
	flags |= unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK
	return o.open(path, flags, uint32(mode.Perm()))
}

// Resolve judges a file, of whatever kind, and the way to it. It returns its path without any
// symbolic link, and what fstat says about it. The error is that of [Owners.Open].
func (o Owners) Resolve(path string) (string, fs.FileInfo, error) {
	w, name, err := o.walk(path, 0)
	if err != nil {
		return "", nil, err
	}
	defer w.close()
	f, err := w.openLast(name, unix.O_PATH, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close() // it was not opened to read
	info, err := f.Stat()
	return w.at(name), info, err
}

// Check returns what is wrong with the first of the files that somebody else could change; nil
// where there is none. Empty paths do not count, nor files that are not there or cannot be
// reached: whoever opens them will say so.
func (o Owners) Check(paths ...string) *Error {
	for _, path := range paths {
		if path == "" {
			continue
		}
		var untrusted *Error
		if _, _, err := o.Resolve(path); errors.As(err, &untrusted) {
			return untrusted
		}
	}
	return nil
}

func (o Owners) open(path string, flags int, mode uint32) (*os.File, error) {
	w, name, err := o.walk(path, flags)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.openLast(name, flags, mode)
}

// walk goes to the directory of a file, through every link, and returns the file's name in it.
// The caller closes the walk. Of the flags only O_NOFOLLOW and O_CREAT count.
func (o Owners) walk(path string, flags int) (*walk, string, error) {
	absolute := path
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return nil, "", &fs.PathError{Op: "open", Path: path, Err: err}
		}
		absolute = here + "/" + path // not cleaned: what is before a ".." may be a link
	}
	w := &walk{owners: o, path: path}
	name, err := w.follow(absolute, flags)
	if err != nil {
		w.close()
		return nil, "", err
	}
	return w, name, nil
}

func (w *walk) follow(path string, flags int) (string, error) {
	if err := w.start(path); err != nil {
		return "", err
	}
	for {
		if len(w.todo) == 0 {
			return ".", w.judgeDirectory() // the path was the root directory, or ended in ".."
		}
		name := w.todo[0]
		w.todo = w.todo[1:]
		last := len(w.todo) == 0
		switch name {
		case "", ".":
			continue
		case "..":
			if len(w.steps) > 1 {
				_ = unix.Close(w.steps[len(w.steps)-1].fd) // nothing was written
				w.steps = w.steps[:len(w.steps)-1]
			}
			continue
		}
		if !last {
			if entered, err := w.enter(name); entered || err != nil {
				if err != nil {
					return "", err
				}
				continue
			}
		}
		link, err := w.link(name)
		switch {
		case last && errors.Is(err, unix.ENOENT) && flags&unix.O_CREAT != 0:
			return name, w.judgeDirectory()
		case err != nil:
			return "", w.failed(err)
		case link == "" && !last:
			return "", w.failed(unix.ENOTDIR)
		case link == "":
			return name, w.judgeDirectory()
		case last && flags&unix.O_NOFOLLOW != 0, w.links == maxLinks:
			return "", w.failed(unix.ELOOP)
		}
		w.links++
		rest := w.todo
		if filepath.IsAbs(link) {
			if err := w.start(link); err != nil {
				return "", err
			}
			w.todo = append(w.todo, rest...)
		} else {
			w.todo = append(strings.Split(link, "/"), rest...)
		}
	}
}

// start goes back to the root directory, to walk an absolute path.
func (w *walk) start(path string) error {
	w.close()
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.failed(err)
	}
	w.steps = append(w.steps, step{fd: fd})
	w.todo = strings.Split(strings.TrimLeft(path, "/"), "/")
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.failed(err)
	}
	return w.owners.judge(w.path, "/", &st, false)
}

// enter opens the directory of a name, and judges it; false: the name is not that of a directory.
func (w *walk) enter(name string) (bool, error) {
	// O_DIRECTORY has the kernel mount what an automounter has there.
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(w.here(), name, flags, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil // a link, or a file
	}
	if err != nil {
		return false, w.failed(err)
	}
	at := w.at(name)
	w.steps = append(w.steps, step{fd, name})
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, w.failed(err)
	}
	return true, w.owners.judge(w.path, at, &st, false)
}

// link returns where a name leads, if it is that of a symbolic link, which it judges; else an
// empty text.
func (w *walk) link(name string) (string, error) {
	fd, err := unix.Openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", err
	}
	if err := w.owners.judge(w.path, w.at(name), &st, false); err != nil {
		return "", err
	}
	var target [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", target[:])
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(target[:max(n, 0)]), err
}

// openLast opens the file itself, and judges it by the opened descriptor.
func (w *walk) openLast(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(w.here(), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, w.failed(err)
	}
	f := os.NewFile(uintptr(fd), w.path)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		err = w.failed(err)
	} else {
		err = w.owners.judge(w.path, w.at(name), &st, false)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// judgeDirectory judges the directory of the file once more, where it must be the owners' alone.
func (w *walk) judgeDirectory() error {
	if !w.owners.alone {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(w.here(), &st); err != nil {
		return w.failed(err)
	}
	return w.owners.judge(w.path, w.at("."), &st, true)
}

// here returns the directory that the walk has come to.
func (w *walk) here() int { return w.steps[len(w.steps)-1].fd }

// at returns the path of a name in that directory.
func (w *walk) at(name string) string {
	var b strings.Builder
	for _, s := range w.steps[1:] {
		b.WriteString("/" + s.name)
	}
	return filepath.Clean(b.String() + "/" + name)
}

func (w *walk) failed(err error) error {
	var judged *Error
	if errors.As(err, &judged) {
		return err
	}
	return &fs.PathError{Op: "open", Path: w.path, Err: err}
}

func (w *walk) close() {
	for _, s := range w.steps {
		_ = unix.Close(s.fd) // nothing was written
	}
	w.steps = nil
}
