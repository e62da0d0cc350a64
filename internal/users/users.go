// Package users looks accounts up the way the machine does, through its name
// service: the local files and whatever else (LDAP, SSSD) the site has
// configured. A statically linked binary knows the local files alone, so the
// question goes to getent and id, at absolute paths, with a deadline and next to
// no environment.
//
// A look-up can take seconds. Nothing on the read path may look up a user.
package users

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/connfs/connfs/internal/process"
)

// ErrUnknown says that the machine works and knows no such account. Every other
// error means that it could not be asked.
var ErrUnknown = errors.New("no such user")

// User is one account.
type User struct {
	Name   string
	UID    uint32
	GID    uint32   // the primary group
	Groups []uint32 // every group, the primary one among them, sorted
	Home   string
}

// Directory is the machine's name service.
type Directory struct {
	// Getent holds candidates for the path of getent. If there is no such file, only the
	// local files are asked.
	Getent  []string
	ID      []string      // candidates for the path of id, which knows an account's groups
	Timeout time.Duration // of one command
}

// System returns the directory of this machine.
func System() *Directory {
	return &Directory{
		Getent:  []string{"/usr/bin/getent", "/bin/getent", "/usr/local/bin/getent"},
		ID:      []string{"/usr/bin/id", "/bin/id", "/usr/local/bin/id"},
		Timeout: 5 * time.Second,
	}
}

// Lookup returns the account of this name on this machine, or an error that
// wraps [ErrUnknown]. A name made of digits is a name: it never means a uid.
func Lookup(ctx context.Context, name string) (User, error) { return System().Lookup(ctx, name) }

// LookupUID returns the account of this uid on this machine, or an error that
// wraps [ErrUnknown].
func LookupUID(ctx context.Context, uid uint32) (User, error) {
	return System().LookupUID(ctx, uid)
}

// Lookup is [Lookup] in this directory.
func (d *Directory) Lookup(ctx context.Context, name string) (User, error) {
	if !possible(name) {
		return User{}, fmt.Errorf("user %q: %w", name, ErrUnknown)
	}
	getent, ok := program(d.Getent)
	if !ok || looksNumeric(name) { // getent takes a number for a uid
		return local(name, func() (*user.User, error) { return user.Lookup(name) })
	}
	return d.ask(ctx, getent, name, func(User) bool { return true })
}

// possible reports whether name can be that of an account. No other may reach getent, which would
// take it for an option.
func possible(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsAny(name, ":\n\x00")
}

// LookupUID is [LookupUID] in this directory.
func (d *Directory) LookupUID(ctx context.Context, uid uint32) (User, error) {
	number := strconv.FormatUint(uint64(uid), 10)
	getent, ok := program(d.Getent)
	if !ok {
		return local("#"+number, func() (*user.User, error) { return user.LookupId(number) })
	}
	return d.ask(ctx, getent, number, func(u User) bool { return u.UID == uid })
}

// ask looks up key, a name or a uid, with getent, and the groups with id. If getent answers
// with another account than same accepts, the user is unknown.
func (d *Directory) ask(
	ctx context.Context, getent, key string, same func(User) bool,
) (User, error) {
	u, err := d.passwd(ctx, getent, key)
	if err != nil {
		return User{}, err
	}
	if !same(u) {
		return User{}, fmt.Errorf("user %q: %w", key, ErrUnknown)
	}
	u.Groups, err = d.groups(ctx, u)
	if err != nil {
		return User{}, fmt.Errorf("looking up the groups of user %q: %w", key, err)
	}
	return u, nil
}

// passwd looks up key, a name or a uid, with getent, and leaves out the groups.
func (d *Directory) passwd(ctx context.Context, getent, key string) (User, error) {
	out, err := d.output(ctx, getent, "passwd", key)
	var exit *exec.ExitError
	// getent(1), of exit code 2: "one or more supplied key could not be found".
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return User{}, fmt.Errorf("user %q: %w", key, ErrUnknown)
	}
	if err != nil {
		return User{}, fmt.Errorf("looking up user %q: %w", key, err)
	}
	u, err := parsePasswd(out)
	if err != nil {
		return User{}, fmt.Errorf("looking up user %q: %w", key, err)
	}
	return u, nil
}

// parsePasswd reads the first line of a passwd database.
func parsePasswd(out string) (User, error) {
	line, _, _ := strings.Cut(out, "\n")
	field := strings.Split(line, ":")
	if len(field) < 7 || field[0] == "" {
		return User{}, errors.New("getent did not answer with a passwd line")
	}
	uid, err := strconv.ParseUint(field[2], 10, 32)
	if err != nil {
		return User{}, errors.New("getent answered with a uid that is not a number")
	}
	gid, err := strconv.ParseUint(field[3], 10, 32)
	if err != nil {
		return User{}, errors.New("getent answered with a gid that is not a number")
	}
	return User{Name: field[0], UID: uint32(uid), GID: uint32(gid), Home: field[5]}, nil
}

func (d *Directory) groups(ctx context.Context, u User) ([]uint32, error) {
	id, ok := program(d.ID)
	if !ok || looksNumeric(u.Name) {
		account := user.User{Uid: decimal(u.UID), Gid: decimal(u.GID), Username: u.Name}
		ids, err := account.GroupIds()
		if err != nil {
			return nil, err
		}
		return parseGroups(u.GID, ids)
	}
	out, err := d.output(ctx, id, "-G", u.Name)
	if err != nil {
		return nil, err
	}
	return parseGroups(u.GID, strings.Fields(out))
}

// parseGroups returns the group numbers with the primary one, sorted, each once.
func parseGroups(primary uint32, ids []string) ([]uint32, error) {
	groups := []uint32{primary}
	for _, id := range ids {
		gid, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, errors.New("the id of a group is not a number")
		}
		groups = append(groups, uint32(gid))
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// local asks the standard library, which reads /etc/passwd and /etc/group.
func local(key string, find func() (*user.User, error)) (User, error) {
	found, err := find()
	var name user.UnknownUserError
	var id user.UnknownUserIdError
	switch {
	case errors.As(err, &name), errors.As(err, &id):
		return User{}, fmt.Errorf("user %q: %w", key, ErrUnknown)
	case err != nil:
		return User{}, fmt.Errorf("looking up user %q: %w", key, err)
	}
	u, err := parsePasswd(strings.Join(
		[]string{found.Username, "", found.Uid, found.Gid, "", found.HomeDir, ""}, ":",
	))
	if err != nil {
		return User{}, fmt.Errorf("looking up user %q: %w", key, err)
	}
	ids, err := found.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("looking up the groups of user %q: %w", key, err)
	}
	u.Groups, err = parseGroups(u.GID, ids)
	return u, err
}

// output runs a command and returns its standard output.
func (d *Directory) output(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := process.Run(cmd)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", fmt.Errorf("%s did not answer within %v", path, d.Timeout)
	}
	return out.String(), err
}

// program returns the first candidate that is an executable file.
func program(candidates []string) (string, bool) {
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() &&
			info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// looksNumeric reports whether getent or id could take name for a number, as
// strtoul does: white space, a sign, digits.
func looksNumeric(name string) bool {
	digits := strings.TrimLeft(name, " \t\n\v\f\r")
	digits = strings.TrimLeft(digits, "+-")
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
