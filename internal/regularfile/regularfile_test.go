package regularfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/connfs/connfs/internal/regularfile"
	"github.com/connfs/connfs/internal/trust"
)

func TestOnlyRegularFilesOfABoundedSizeAreRead(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	fifo := filepath.Join(dir, "fifo")
	if err := errors.Join(
		os.WriteFile(file, []byte("12345"), 0o640), os.Symlink(file, link),
		syscall.Mkfifo(fifo, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	var large *regularfile.TooLargeError
	for name, c := range map[string]struct {
		path         string
		flags, limit int
		want         func(error) bool
	}{
		"a file": {file, 0, 5, func(err error) bool { return err == nil }},
		"a link": {link, 0, 5, func(err error) bool { return err == nil }},
		"a link that must be none": {link, syscall.O_NOFOLLOW, 5,
			func(err error) bool { return errors.Is(err, syscall.ELOOP) }},
		"one byte too many": {file, 0, 4,
			func(err error) bool { return errors.As(err, &large) && large.Limit == 4 }},
		"a FIFO": {fifo, 0, 5,
			func(err error) bool { return errors.Is(err, regularfile.ErrNotRegular) }},
		"a device without an end": {"/dev/zero", 0, 5,
			func(err error) bool { return errors.Is(err, regularfile.ErrNotRegular) }},
		"a directory": {dir, 0, 5,
			func(err error) bool { return errors.Is(err, regularfile.ErrNotRegular) }},
		"nothing": {dir + "/nothing", 0, 5,
			func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
	} {
		content, info, err := regularfile.Read(c.path, c.flags, c.limit, trust.Own())
		if !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (string(content) != "12345" || info.Mode().Perm() != 0o640) {
			t.Errorf("%s: %q, %v", name, content, info.Mode())
		}
	}
}
