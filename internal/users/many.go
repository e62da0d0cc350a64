package users

import (
	"context"
	"errors"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Bounds of one getent.
const (
	maxNames = 100
	maxBytes = 32 << 10 // of names; a single argument may be four times as long
)

// parallel is how many names are asked for at the same time, one in each getent, after a getent
// for many of them has failed.
const parallel = 8

// Answer is what the machine said about many names.
type Answer struct {
	UIDs    map[string]uint32 // of the accounts that it knows
	Unknown []string          // names of no account
	// Failed are names for which it could not be asked, or not in time, and Err says why.
	Failed []string
	Err    error
}

// LookupUIDs returns the uids of many names on this machine, each of which should come once. It
// asks for a hundred at a time. A name made of digits is a name: it never means a uid.
func LookupUIDs(ctx context.Context, names []string) Answer {
	return System().LookupUIDs(ctx, names)
}

// LookupUIDs is [LookupUIDs] in this directory.
func (d *Directory) LookupUIDs(ctx context.Context, names []string) Answer {
	m := many{Directory: d, answer: Answer{UIDs: make(map[string]uint32, len(names))}}
	var ok bool
	m.getent, ok = program(d.Getent)
	var batch []string
	size := 0
	for _, name := range names {
		switch {
		case !possible(name):
			m.answer.Unknown = append(m.answer.Unknown, name)
			continue
		case !ok || looksNumeric(name):
			m.local(name)
			continue
		case len(batch) == maxNames || size+len(name) > maxBytes:
			m.ask(ctx, batch)
			batch, size = nil, 0
		}
		batch = append(batch, name)
		size += len(name)
	}
	m.ask(ctx, batch)
	return m.answer
}

// many is one call of LookupUIDs.
type many struct {
	*Directory
	getent string

	mu     sync.Mutex
	answer Answer
}

func (m *many) found(name string, uid uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer.UIDs[name] = uid
}

// missed notes names for which err is the answer.
func (m *many) missed(err error, names ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, ErrUnknown) {
		m.answer.Unknown = append(m.answer.Unknown, names...)
		return
	}
	m.answer.Failed = append(m.answer.Failed, names...)
	if m.answer.Err == nil {
		m.answer.Err = err
	}
}

// local looks a name up in the local files.
func (m *many) local(name string) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		err = ErrUnknown
	}
	var uid uint64
	if err == nil {
		uid, err = strconv.ParseUint(u.Uid, 10, 32)
	}
	if err != nil {
		m.missed(err, name)
		return
	}
	m.found(name, uint32(uid))
}

// ask looks names up. Most of them are known by the lines that getent prints: those that have the
// name that was asked for. A directory service can also answer with another spelling; which name
// such a line is for is found out by asking for fewer.
func (m *many) ask(ctx context.Context, names []string) {
	if len(names) < 2 {
		m.each(ctx, names)
		return
	}
	lines, err := m.lines(ctx, names)
	if err != nil {
		// One name that its server does not answer must not take the others along.
		m.each(ctx, names)
		return
	}
	uids := make(map[string]uint32, len(lines))
	for _, u := range lines {
		uids[u.Name] = u.UID
	}
	var rest []string
	for _, name := range names {
		if uid, ok := uids[name]; ok {
			m.found(name, uid)
		} else {
			rest = append(rest, name)
		}
	}
	if len(lines) == len(names)-len(rest) {
		m.missed(ErrUnknown, rest...)
		return
	}
	m.ask(ctx, rest[:len(rest)/2])
	m.ask(ctx, rest[len(rest)/2:])
}

// errIncomplete says that getent has stopped at the first name that it does not know.
var errIncomplete = errors.New("getent did not look up all names")

// lines returns what getent prints for names: a line for each that it knows, in their order. Some
// getents stop at the first name that they do not know. So uid 0 is asked for after the names, and
// where its line is missing, this fails.
func (m *many) lines(ctx context.Context, names []string) ([]User, error) {
	// Much time is left for asking one by one.
	ctx, cancel := context.WithTimeout(ctx, m.Timeout/2)
	defer cancel()
	out, err := m.output(ctx, m.getent, append(append([]string{"passwd"}, names...), "0")...)
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		return nil, err
	}
	var lines []User
	for line := range strings.Lines(out) {
		u, err := parsePasswd(line)
		if err != nil {
			return nil, err
		}
		lines = append(lines, u)
	}
	end := len(lines) - 1
	if end < 0 || lines[end].UID != 0 {
		return nil, errIncomplete
	}
	if root := lines[end].Name; slices.Contains(names, root) {
		// Then there are two such lines.
		same := func(u User) bool { return u.Name == root }
		if !slices.ContainsFunc(lines[:end], same) {
			return nil, errIncomplete
		}
	}
	return lines[:end], nil
}

// each looks names up one by one.
func (m *many) each(ctx context.Context, names []string) {
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, name := range names {
		group.Go(func() error {
			if u, err := m.passwd(ctx, m.getent, name); err != nil {
				m.missed(err, name)
			} else {
				m.found(name, u.UID)
			}
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
}
