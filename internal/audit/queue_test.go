package audit_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connfs/connfs/internal/audit"
)

// gate is a sink that accepts nothing until it is opened.
type gate struct {
	sink
	open chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.sink.Write(b)
}

func granted(id string) *audit.Entry {
	return &audit.Entry{
		Time: time.Now(), Op: "open", UID: 1001, ID: id, Allowed: true, Cached: true,
	}
}

func TestAStuckSinkStallsNobodyWhereTheAuditIsNotRequired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		l := audit.NewLog(g, audit.Config{})
		start := time.Now()
		for i := range 1000 {
			l.Write(granted(fmt.Sprint(i)), time.Now().Add(5*time.Second))
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("1,000 readers waited %v", d)
		}
		close(g.open)
		synctest.Wait()
		if got := g.take(t); len(got) != 1000 || got[999].ID != "999" {
			t.Errorf("%d lines were written in the end", len(got))
		}
		if err := l.Write(granted("after"), time.Now().Add(5*time.Second)); err != nil ||
			len(g.take(t)) != 1 {
			t.Errorf("not written once the sink works: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestARequiredLineThatIsNotInTimeIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		l := audit.NewLog(g, audit.Config{Required: true})
		var readers sync.WaitGroup
		for i := range 10 {
			readers.Go(func() {
				start := time.Now()
				err := l.Write(granted(fmt.Sprint(i)), start.Add(3*time.Second))
				if d := time.Since(start); err == nil || d != 3*time.Second {
					t.Errorf("error %v after %v", err, d)
				}
			})
		}
		readers.Wait()
		// A request can be refused even if the line cannot be written.
		start := time.Now()
		l.Write(refused(6666, "x"), start.Add(3*time.Second))
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("a refusal waited %v", d)
		}
		close(g.open)
		synctest.Wait()
		if err := l.Write(granted("after"), time.Now().Add(3*time.Second)); err != nil {
			t.Errorf("once the sink works: %v", err)
		}
		l.Close()
	})
}

func TestLinesThatAStuckSinkCannotTakeAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		l := audit.NewLog(g, audit.Config{})
		const many = 30000 // some 7 MiB
		for i := range many {
			e := refused(uint32(i), "")
			e.Stranger = false
			l.Write(e, soon())
		}
		// Refusals have not used up the room that is kept for granted reads.
		for i := range 1000 {
			if err := l.Write(granted(fmt.Sprint(i)), time.Now()); err != nil &&
				strings.Contains(err.Error(), "too many") {
				t.Fatal(err)
			}
		}
		close(g.open)
		l.Close()
		refusals, reads, lost := 0, 0, uint64(0)
		for _, got := range g.take(t) {
			switch {
			case got.Allowed:
				reads++
			case got.Errno != "":
				refusals++
			default:
				lost += got.Count
			}
		}
		if reads != 1000 || refusals == 0 || lost == 0 || refusals+int(lost) != many {
			t.Errorf("%d granted reads, %d refusals, %d lines lost", reads, refusals, lost)
		}
	})
}

// disk fails with err after room bytes, if err is set.
type disk struct {
	sink
	room int
	err  error
}

func (d *disk) Write(b []byte) (int, error) {
	if d.err == nil {
		return d.sink.Write(b)
	}
	n := min(len(b), d.room)
	d.room -= n
	d.sink.Write(b[:n])
	return n, d.err
}

func TestAFullDiskTearsOneLineOnly(t *testing.T) {
	d := &disk{room: 100, err: syscall.ENOSPC}
	l := audit.NewLog(d, audit.Config{Required: true})
	for range 3 {
		if err := l.Write(granted("lost"), soon()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
	}
	d.err = nil
	if err := l.Write(granted("whole"), soon()); err != nil {
		t.Error(err)
	}
	l.Close()
	torn, rest, _ := strings.Cut(d.buf.String(), "\n")
	if len(torn) != 100 {
		t.Errorf("the first line: %q", torn)
	}
	d.buf.Reset()
	d.buf.WriteString(rest)
	if got := d.take(t); len(got) != 2 || got[0].Count != 3 || got[1].ID != "whole" {
		t.Errorf("after it: %+v", got)
	}
}

func TestAFrozenPipeStallsNobodyAndLosesNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// In blocking mode, as standard error mostly is.
	if err := syscall.SetNonblock(int(w.Fd()), false); err != nil {
		t.Fatal(err)
	}
	l := audit.NewFileLog(w, audit.Config{})
	start := time.Now()
	const many = 2000 // a pipe holds 64 KiB
	for i := range many {
		l.Write(granted(fmt.Sprint(i)), time.Now().Add(time.Minute))
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("readers waited %v", d)
	}
	var out sink
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(&out, r)
	}()
	l.Close()
	w.Close()
	<-done
	got := out.take(t)
	if len(got) != many {
		t.Fatalf("%d lines", len(got))
	}
	for i := range got {
		if got[i].ID != fmt.Sprint(i) {
			t.Fatalf("line %d is that of %s", i, got[i].ID)
		}
	}
}

func TestManyWritersToOneFileLoseAndTearNothing(t *testing.T) {
	for _, required := range []bool{false, true} {
		file := t.TempDir() + "/audit.log"
		l, err := audit.Open(audit.Config{File: file, Required: required})
		if err != nil {
			t.Fatal(err)
		}
		var writers sync.WaitGroup
		for range 8 {
			writers.Go(func() {
				for i := range 500 {
					if err := l.Write(granted(fmt.Sprint(i)), soon()); err != nil {
						t.Error(err)
					}
					if i%100 == 0 {
						l.Reopen()
					}
				}
			})
		}
		writers.Wait()
		// All lines are there before Close: Write returns when its line is written.
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var out sink
		out.Write(text)
		if n := len(out.take(t)); n != 4000 {
			t.Errorf("required %v: %d lines", required, n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
