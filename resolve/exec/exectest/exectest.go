// Package exectest tries a program of the site's own against the protocol of exec
// plugins, docs/exec-plugin.md, with the code that connfs itself uses.
package exectest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	osexec "os/exec"
	"strings"
	"sync"
	"time"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
	"github.com/connfs/connfs/resolve/exec"
)

// answerTime is how long the program may take for one answer, and for its end.
const answerTime = 5 * time.Second

// manyAtOnce is how many requests are under way at the same time.
const manyAtOnce = 50

// listedTried is how many of the ids that the program lists are looked up.
const listedTried = 20

// Result is what one trial found.
type Result struct {
	Name string // what the program must do
	Err  error  // why it does not; nil: it does
	Note string // what else is worth knowing; may be empty
}

// Run tries the program. ids are of connections that it must find. What it finds is
// parsed, and nothing of it is shown.
func Run(ctx context.Context, command []string, environment map[string]string,
	ids []string) ([]Result, error) {
	kwargs, err := json.Marshal(map[string]any{"command": command, "environment": environment})
	if err != nil {
		return nil, err
	}
	b, err := backend.Open(&backend.Secrets{Kwargs: string(kwargs)}, exec.Open)
	if err != nil {
		return nil, err
	}
	r := &runner{ctx: ctx, backend: b.(*exec.Store)}
	// The program is only tested: how it ends is not one of the results.
	defer func() { _ = r.backend.Close() }()
	if !r.start() {
		return r.results, nil
	}
	r.absent()
	for _, id := range ids {
		r.found(id)
	}
	r.strange()
	r.together()
	r.list()
	r.add("ends when its standard input does", endsWithInput(ctx, command, environment), "")
	return r.results, nil
}

type runner struct {
	ctx     context.Context
	backend *exec.Store
	results []Result
}

func (r *runner) add(name string, err error, note string) {
	r.results = append(r.results, Result{name, err, note})
}

// get looks an id up; found says that there is such a connection.
func (r *runner) get(id string) (found bool, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, answerTime)
	defer cancel()
	c, err := r.backend.Connection(ctx, id)
	switch {
	case err == nil:
		return true, c.Validate()
	case conn.KindOf(err) == conn.Absent:
		return false, nil
	}
	return false, err
}

func (r *runner) start() bool {
	ctx, cancel := context.WithTimeout(r.ctx, answerTime)
	defer cancel()
	ok := true
	for i, c := range r.backend.Check(ctx) {
		name := "check: " + c.Call
		if i == 0 {
			name = "starts, and speaks version 1"
			ok = c.Err == nil
		}
		r.add(name, c.Err, "")
	}
	return ok
}

// unknown returns an id that no store has.
func unknown() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "connfs_check_" + hex.EncodeToString(b[:])
}

func (r *runner) absent() {
	found, err := r.get(unknown())
	if found {
		err = errors.New("it finds a connection under an id that was made up")
	}
	r.add("says absent of an id that it does not have", err, "")
}

func (r *runner) found(id string) {
	found, err := r.get(id)
	if !found && err == nil {
		err = errors.New("it says absent")
	}
	r.add(fmt.Sprintf("finds %q", id), err, "")
}

// strange are ids that Airflow allows, and that a program which pastes them into a
// query, a path or a line of text would trip over.
func (r *runner) strange() {
	var err error
	for _, id := range []string{
		`"`, `\`, `'; drop table connection; --`, "ü_接続_😀", " blank ", "%s%n", "$(id)", "`id`", "-rf", "*", "a b\tc", "\x7f",
		strings.Repeat("x", 1000),
	} {
		if _, one := r.get(id); one != nil && err == nil {
			err = fmt.Errorf("%.40q: %w", id, one)
		}
	}
	r.add("answers ids of any characters", err, "")
}

func (r *runner) together() {
	errs := make([]error, manyAtOnce)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = r.get(unknown()) })
	}
	wg.Wait()
	var first error
	for _, err := range errs {
		if first == nil {
			first = err
		}
	}
	r.add(fmt.Sprintf("answers %d requests at once", manyAtOnce), first,
		fmt.Sprintf("in %v", time.Since(start).Round(time.Millisecond)))
}

func (r *runner) list() {
	const name = "lists its ids, and finds what it lists"
	ctx, cancel := context.WithTimeout(r.ctx, answerTime)
	defer cancel()
	ids, err := r.backend.List(ctx)
	if conn.KindOf(err) == conn.Failed && err != nil {
		r.add(name, nil, "it cannot list; ls will not show its connections")
		return
	}
	note := fmt.Sprintf("%d ids", len(ids))
	for _, id := range ids[:min(len(ids), listedTried)] {
		if err != nil {
			break
		}
		var found bool
		if found, err = r.get(id); conn.KindOf(err) == conn.Invalid {
			err = nil // it is there, and it is for its owner to mend
		} else if err == nil && !found {
			err = fmt.Errorf("%.40q is listed, and absent", id)
		}
	}
	r.add(name, err, note)
}

// endsWithInput runs the program with nothing to read.
func endsWithInput(ctx context.Context, command []string, environment map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	cmd := osexec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = "/", exec.Environment(environment)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	cmd.WaitDelay = time.Second
	_ = cmd.Run() // with which code does not matter
	if ctx.Err() != nil {
		return errors.New("it is still there after 5 seconds")
	}
	return nil
}
